"""Control of the frozen experiment of this name: random init, all trains.

    mim train mmdet \\
        configs/scratch/cascade_mask_rcnn_dinov3-convnext-l_36e_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = '../frozen/cascade_mask_rcnn_dinov3-convnext-l_36e_lvis.py'

model = dict(
    backbone=dict(frozen=False, norm_eval=False, backbone=dict(init_cfg=None))
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
