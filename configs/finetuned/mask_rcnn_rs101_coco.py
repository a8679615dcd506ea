"""Control of ../frozen/mask_rcnn_rs101_coco.py: every stage trains.

    mim train mmdet configs/finetuned/mask_rcnn_rs101_coco.py

8 GPUs x 8 images. Box and mask AP: not run.
"""

_base_ = '../frozen/mask_rcnn_rs101_coco.py'

model = dict(
    backbone=dict(
        frozen=False,
        norm_eval=False,
        backbone=dict(sync_bn=True),  # statistics over the batch of 64
    )
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
