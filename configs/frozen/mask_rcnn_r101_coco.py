"""Mask R-CNN with NAS-FPN on a frozen R101, COCO 2017.

    mim train mmdet configs/frozen/mask_rcnn_r101_coco.py

8 GPUs x 8 images, 72 epochs. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/72e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        depth=101,
        frozen_stages=4,  # stem and all 4 stages: nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
