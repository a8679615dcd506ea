"""Control of the frozen experiment of this name: random init, all trains.

    mim train mmdet configs/scratch/faster_rcnn_r50_fpn_2fc_12e_coco.py

1 GPU x 8 images. Box AP: not run.
"""

_base_ = '../frozen/faster_rcnn_r50_fpn_2fc_12e_coco.py'

model = dict(
    # statistics over 8 images: the best there is from scratch
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None)
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
