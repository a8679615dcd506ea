"""Control of ../frozen/mask_rcnn_rs101_12e_own.py: random init, all trains.

    mim train mmdet configs/scratch/mask_rcnn_rs101_12e_own.py

1 GPU x 8 images. Box and mask AP: not run.
"""

_base_ = '../frozen/mask_rcnn_rs101_12e_own.py'

model = dict(
    backbone=dict(frozen=False, norm_eval=False, backbone=dict(init_cfg=None))
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
