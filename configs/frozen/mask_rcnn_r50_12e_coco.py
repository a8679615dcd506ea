"""Mask R-CNN with NAS-FPN on a frozen R50, COCO 2017, one GPU.

    mim train mmdet configs/frozen/mask_rcnn_r50_12e_coco.py

1 GPU x 8 images. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/12e.py',
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
