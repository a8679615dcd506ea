"""Control of ../frozen/faster_rcnn_lite0_own.py: random init, all trains.

    mim train mmdet configs/scratch/faster_rcnn_lite0_own.py --gpus 0

2 CPU cores, 2 images a step. Box AP: not run.
"""

_base_ = '../frozen/faster_rcnn_lite0_own.py'

model = dict(
    backbone=dict(frozen=False, norm_eval=False, backbone=dict(init_cfg=None))
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
