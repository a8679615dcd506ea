"""DINOv3 ViT-L, patches of 16, 1,689 M unlabelled images.

DINOv3 License: read it before you use or pass on the weights. timm gets them
from the Hugging Face hub; if it asks you to log in, accept the licence on the
model's page and run `hf auth login`. Images are normalised as MMDetection's
ResNets are.
"""

classifier = dict(
    type='mmfrozen.TimmBackbone',
    model_name='vit_large_patch16_dinov3',
    out_indices=(23,),  # the last of 24 blocks
    init_cfg=dict(
        type='Pretrained',
        checkpoint='timm://vit_large_patch16_dinov3.lvd1689m',
    ),
)
classifier_channels = [1024]
