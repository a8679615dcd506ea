"""Control of ../frozen/faster_rcnn_rs101_lvis.py: random init, all trains.

    mim train mmdet configs/scratch/faster_rcnn_rs101_lvis.py

8 GPUs x 8 images. Box AP, APr: not run.
"""

_base_ = '../frozen/faster_rcnn_rs101_lvis.py'

model = dict(
    backbone=dict(
        frozen=False,
        norm_eval=False,
        # statistics over the batch of 64
        backbone=dict(sync_bn=True, init_cfg=None),
    )
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
