"""Faster R-CNN with FPN, box head of 2 layers, on a frozen R50, COCO, one GPU.

    mim train mmdet configs/frozen/faster_rcnn_r50_fpn_2fc_12e_coco.py

1 GPU x 8 images. Box AP: not run.
"""

_base_ = [
    './_base_/models/faster_rcnn_fpn.py',
    './_base_/datasets/coco_box_1024.py',
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
    # 2 fully connected layers alone
    roi_head=dict(bbox_head=dict(num_shared_convs=0)),
)
