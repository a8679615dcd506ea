"""Control of ../frozen/retinanet_r50_fpn_12e_coco.py: every stage trains.

    mim train mmdet configs/finetuned/retinanet_r50_fpn_12e_coco.py

1 GPU x 8 images. Box AP: not run.
"""

_base_ = '../frozen/retinanet_r50_fpn_12e_coco.py'

model = dict(
    # statistics over 8 images would hurt the control: it keeps them
    backbone=dict(frozen_stages=-1, norm_eval=True)
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
