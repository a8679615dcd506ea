"""ConvNeXt-L, ImageNet-22k. Apache-2.0 (timm), MIT (the authors').

Images are normalised as MMDetection's ResNets are.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='convnext_large',
    out_indices=(0, 1, 2, 3),  # C2 to C5
    # for the control; frozen, it is off
    model_args=dict(drop_path_rate=0.4),
    init_cfg=dict(
        type='Pretrained', checkpoint='timm://convnext_large.fb_in22k'
    ),
)
classifier_channels = [192, 384, 768, 1536]
