"""Control of ../frozen/cascade_rcnn_rs101_coco.py: random init, all trains.

    mim train mmdet configs/scratch/cascade_rcnn_rs101_coco.py

8 GPUs x 8 images. Box AP: not run.
"""

_base_ = '../frozen/cascade_rcnn_rs101_coco.py'

model = dict(
    backbone=dict(
        frozen=False,
        norm_eval=False,
        # statistics over the batch of 64
        backbone=dict(sync_bn=True, init_cfg=None),
    )
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
