"""Faster R-CNN with NAS-FPN on a frozen ResNet-RS-101, LVIS v1 boxes.

    mim train mmdet configs/frozen/faster_rcnn_rs101_lvis.py

8 GPUs x 8 images. Box AP, APr: not run.
"""

_base_ = [
    './_base_/models/faster_rcnn.py',
    './_base_/classifiers/rs101.py',
    './_base_/datasets/lvis_box_1024.py',
    './_base_/schedules/72e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,  # drops the ResNet
        type='FrozenBackbone',
        frozen=True,  # nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        backbone=_base_.classifier,
    ),
    neck=dict(in_channels=_base_.classifier_channels),
    roi_head=dict(bbox_head=dict(num_classes=1203)),
    # LVIS keeps 300 detections an image, whatever their score
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)
