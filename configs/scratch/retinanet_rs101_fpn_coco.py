"""Control of ../frozen/retinanet_rs101_fpn_coco.py: random init, all trains.

    mim train mmdet configs/scratch/retinanet_rs101_fpn_coco.py

32 GPUs x 8 images. Box AP: not run.
"""

_base_ = '../frozen/retinanet_rs101_fpn_coco.py'

model = dict(
    backbone=dict(
        frozen=False,
        norm_eval=False,
        # statistics over the batch of 256
        backbone=dict(sync_bn=True, init_cfg=None),
    )
)
default_hooks = dict(frozen_guard=dict(state='scratch'))
