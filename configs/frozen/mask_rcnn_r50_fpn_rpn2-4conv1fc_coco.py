"""Mask R-CNN with FPN on a frozen R50: the architecture of other toolboxes.

Detectron2's new_baselines and MMDetection's strong_baselines have the same
neck and heads (RPN of 2 convolutions, box head 4 conv 1 fc) with ReLU; they
train every stage from scratch.

    mim train mmdet configs/frozen/mask_rcnn_r50_fpn_rpn2-4conv1fc_coco.py

8 GPUs x 8 images. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
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
    rpn_head=dict(num_convs=2),
    roi_head=dict(bbox_head=dict(num_shared_fcs=1)),
)
