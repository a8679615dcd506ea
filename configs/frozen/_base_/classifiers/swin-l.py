"""Swin-L, window 12, ImageNet-22k at 384 x 384. MIT.

Images are normalised as MMDetection's ResNets are.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='swin_large_patch4_window12_384',
    out_indices=(0, 1, 2, 3),  # C2 to C5
    # for the control; frozen, it is off
    model_args=dict(drop_path_rate=0.3),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='timm://swin_large_patch4_window12_384.ms_in22k',
    ),
)
classifier_channels = [192, 384, 768, 1536]
