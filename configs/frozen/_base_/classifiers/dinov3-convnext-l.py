"""DINOv3 ConvNeXt-L, distilled from the 7 B model.

DINOv3 License: read it before you use or pass on the weights. timm gets them
from the Hugging Face hub; if it asks you to log in, accept the licence on the
model's page and run `hf auth login`. Images are normalised as MMDetection's
ResNets are.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='convnext_large',
    out_indices=(0, 1, 2, 3),  # C2 to C5
    # for the control; frozen, it is off
    model_args=dict(drop_path_rate=0.4),
    init_cfg=dict(
        type='Pretrained', checkpoint='timm://convnext_large.dinov3_lvd1689m'
    ),
)
classifier_channels = [192, 384, 768, 1536]
