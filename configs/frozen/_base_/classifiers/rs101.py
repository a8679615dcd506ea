"""ResNet-RS-101, ImageNet: what the paper calls R101. Apache-2.0.

Images are normalised as MMDetection's ResNets are.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='resnetrs101',
    out_indices=(1, 2, 3, 4),  # C2 to C5
    init_cfg=dict(type='Pretrained', checkpoint='timm://resnetrs101.tf_in1k'),
)
classifier_channels = [256, 512, 1024, 2048]
