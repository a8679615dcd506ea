"""Control of ../frozen/faster_rcnn_lite0_own.py: every stage trains.

    mim train mmdet configs/finetuned/faster_rcnn_lite0_own.py --gpus 0

2 CPU cores, 2 images a step. Box AP: not run.
"""

_base_ = '../frozen/faster_rcnn_lite0_own.py'

model = dict(
    # statistics over 2 images would hurt the control: it keeps them
    backbone=dict(frozen=False, norm_eval=True)
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
