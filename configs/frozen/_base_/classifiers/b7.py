"""EfficientNet-B7, ImageNet with AutoAugment. Apache-2.0.

Images are normalised as MMDetection's ResNets are. C1, of stride 2, is not
used.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='tf_efficientnet_b7',
    out_indices=(1, 2, 3, 4),  # C2 to C5
    init_cfg=dict(
        type='Pretrained', checkpoint='timm://tf_efficientnet_b7.aa_in1k'
    ),
)
classifier_channels = [48, 80, 224, 640]
