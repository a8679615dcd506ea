"""Mask R-CNN with NAS-FPN on a frozen R50, COCO 2017.

    mim train mmdet configs/frozen/mask_rcnn_r50_coco.py

8 GPUs x 8 images. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/72e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        depth=50,
        frozen_stages=4,  # stem and all 4 stages: nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
