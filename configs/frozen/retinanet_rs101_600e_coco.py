"""RetinaNet with NAS-FPN on a frozen ResNet-RS-101, COCO, 600 epochs.

One of the twelve settings that the authors released.

    mim train mmdet configs/frozen/retinanet_rs101_600e_coco.py

32 GPUs x 8 images. Box AP: not run.
"""

_base_ = [
    './_base_/models/retinanet.py',
    './_base_/classifiers/rs101.py',
    './_base_/datasets/coco_box_1024.py',
    './_base_/schedules/600e_b256.py',
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
