"""EfficientNet-B7, Noisy Student. Apache-2.0.

Its teacher labelled 130 M images of JFT-300M: the public stand-in for the
paper's pre-training on JFT-300M, which was never released. Images are
normalised as MMDetection's ResNets are.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='tf_efficientnet_b7',
    out_indices=(1, 2, 3, 4),  # C2 to C5
    init_cfg=dict(
        type='Pretrained', checkpoint='timm://tf_efficientnet_b7.ns_jft_in1k'
    ),
)
classifier_channels = [48, 80, 224, 640]
