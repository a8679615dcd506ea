"""Control of the frozen experiment of this name: random init, all trains.

    mim train mmdet configs/scratch/mask_rcnn_lite0_scp_mini-lvis.py --gpus 0

2 CPU cores, 4 images a step.
"""

_base_ = '../frozen/mask_rcnn_lite0_scp_mini-lvis.py'

model = dict(
    backbone=dict(frozen=False, norm_eval=False, backbone=dict(init_cfg=None))
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
