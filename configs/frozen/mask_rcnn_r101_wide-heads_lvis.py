"""Capacity ladder, rung 9: Mask R-CNN with NAS-FPN and wide heads, LVIS v1.

    mim train mmdet configs/frozen/mask_rcnn_r101_wide-heads_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn.py',
    './_base_/datasets/lvis.py',
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
    rpn_head=dict(feat_channels=512),
    roi_head=dict(
        bbox_head=dict(
            num_classes=1203, conv_out_channels=512, fc_out_channels=2048
        ),
        mask_head=dict(num_classes=1203, num_convs=8, conv_out_channels=512),
    ),
    # LVIS keeps 300 detections an image, whatever their score
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)
