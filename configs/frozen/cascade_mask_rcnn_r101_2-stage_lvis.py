"""Capacity ladder, rung 7: Cascade Mask R-CNN of 2 stages, NAS-FPN, LVIS v1.

    mim train mmdet configs/frozen/cascade_mask_rcnn_r101_2-stage_lvis.py

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
        num_stages=2,
        stage_loss_weights=[1 / 2, 1 / 2],  # the mean of the stages
        bbox_head=[
            dict(head, num_classes=1203)
            for head in _base_.model.roi_head.bbox_head[:2]
        ],
        mask_head=dict(num_classes=1203),
    ),
    train_cfg=dict(rcnn=_base_.model.train_cfg.rcnn[:2]),
    # LVIS keeps 300 detections an image, whatever their score
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)
