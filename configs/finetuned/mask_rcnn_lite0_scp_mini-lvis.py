"""Control of the frozen experiment of this name: every stage trains.

    mim train mmdet configs/finetuned/mask_rcnn_lite0_scp_mini-lvis.py --gpus 0

2 CPU cores, 4 images a step.
"""

_base_ = '../frozen/mask_rcnn_lite0_scp_mini-lvis.py'

model = dict(
    # statistics over 4 images would hurt the control: it keeps them
    backbone=dict(frozen=False, norm_eval=True)
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
