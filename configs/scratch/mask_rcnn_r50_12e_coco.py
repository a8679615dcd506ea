"""Control of ../frozen/mask_rcnn_r50_12e_coco.py: random init, all trains.

    mim train mmdet configs/scratch/mask_rcnn_r50_12e_coco.py

1 GPU x 8 images. Box and mask AP: not run.
"""

_base_ = '../frozen/mask_rcnn_r50_12e_coco.py'

model = dict(
    # statistics over 8 images: the best there is from scratch
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None)
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
