"""Control of ../frozen/retinanet_rs101_fpn_coco.py: every stage trains.

    mim train mmdet configs/finetuned/retinanet_rs101_fpn_coco.py

32 GPUs x 8 images. Box AP: not run.
"""

_base_ = '../frozen/retinanet_rs101_fpn_coco.py'

model = dict(
    backbone=dict(
        frozen=False,
        norm_eval=False,
        backbone=dict(sync_bn=True),  # statistics over the batch of 256
    )
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
