"""Capacity ladder, rung 8: Cascade Mask R-CNN of 3 stages, NAS-FPN, LVIS v1.

    mim train mmdet configs/frozen/cascade_mask_rcnn_r101_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = [
    './_base_/models/cascade_mask_rcnn.py',
    './_base_/datasets/lvis_mask_1280.py',
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
    roi_head=dict(
        bbox_head=[
            dict(head, num_classes=1203)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(num_classes=1203),
    ),
    # LVIS keeps 300 detections an image, whatever their score
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)
