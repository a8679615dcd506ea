"""RetinaNet with NAS-FPN on a frozen ResNet-RS-101, COCO, 72 epochs.

One of the twelve settings that the authors released.

    mim train mmdet configs/frozen/retinanet_rs101_coco.py

32 GPUs x 8 images. Box AP: not run.
"""

_base_ = [
    './_base_/models/retinanet.py',
    './_base_/classifiers/rs101.py',
    './_base_/datasets/coco.py',
    './_base_/pipelines/box_1024.py',
    './_base_/schedules/72e_b256.py',
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

train_pipeline = _base_.lsj_train
test_pipeline = _base_.lsj_test
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
