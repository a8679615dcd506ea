"""Cascade Mask R-CNN with NAS-FPN on a frozen ResNet-RS-101, COCO 2017.

    mim train mmdet configs/frozen/cascade_mask_rcnn_rs101_coco.py

8 GPUs x 8 images. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/cascade_mask_rcnn.py',
    './_base_/classifiers/rs101.py',
    './_base_/datasets/coco_mask_1280.py',
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
)
