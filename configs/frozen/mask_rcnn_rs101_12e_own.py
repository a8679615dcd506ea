"""Mask R-CNN with NAS-FPN on a frozen ResNet-RS-101: your own data.

Annotations are in COCO's format, with masks. Change classes and data_root
below, nothing else; see configs/README.md.

    mim train mmdet configs/frozen/mask_rcnn_rs101_12e_own.py

1 GPU x 8 images. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn.py',
    './_base_/classifiers/rs101.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/12e.py',
    './_base_/runtime.py',
]

classes = ('cat', 'dog')  # as the annotation files name them
data_root = 'data/own/'  # with images/, train.json and val.json
num_classes = len(classes)

model = dict(
    backbone=dict(
        _delete_=True,  # drops the ResNet
        type='FrozenBackbone',
        frozen=True,  # nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        backbone=_base_.classifier,
    ),
    neck=dict(in_channels=_base_.classifier_channels),
    roi_head=dict(
        bbox_head=dict(num_classes=num_classes),
        mask_head=dict(num_classes=num_classes),
    ),
)

own = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    dataset=dict(ann_file='train.json', data_prefix=dict(img='images/'), **own)
)
val_dataloader = dict(
    dataset=dict(ann_file='val.json', data_prefix=dict(img='images/'), **own)
)
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + 'val.json', train_ann_file=data_root + 'train.json'
)
test_evaluator = val_evaluator
