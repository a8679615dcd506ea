"""Cascade Mask R-CNN with NAS-FPN on a frozen EfficientNet-B7, COCO 2017.

    mim train mmdet configs/frozen/cascade_mask_rcnn_b7_390e_coco.py

32 GPUs x 8 images. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/cascade_mask_rcnn_b7.py',
    './_base_/classifiers/b7.py',
    './_base_/datasets/coco_mask_1280.py',
    './_base_/schedules/390e.py',
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
