"""Control of ../frozen/cascade_rcnn_rs101_lvis.py: every stage trains.

    mim train mmdet configs/finetuned/cascade_rcnn_rs101_lvis.py

8 GPUs x 8 images. Box AP, APr: not run.
"""

_base_ = '../frozen/cascade_rcnn_rs101_lvis.py'

model = dict(
    backbone=dict(
        frozen=False,
        norm_eval=False,
        backbone=dict(sync_bn=True),  # statistics over the batch of 64
    )
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
