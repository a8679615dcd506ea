"""Cascade R-CNN with NAS-FPN and residual adapters on a frozen ResNet-RS-101.

Adapters after Rebuffi et al. 2017, the identity at first. The classifier
stays bitwise what it was.

    mim train mmdet configs/frozen/cascade_rcnn_rs101_adapters_coco.py

8 GPUs x 8 images. Box AP: not run.
The paper reports 53.6 AP with JFT-300M weights; without adapters 52.8,
fine-tuned 51.1 [second-hand].
"""

_base_ = [
    './_base_/models/cascade_rcnn.py',
    './_base_/classifiers/rs101.py',
    './_base_/datasets/coco_box_1280.py',
    './_base_/schedules/72e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,  # drops the ResNet
        type='FrozenBackbone',
        frozen=True,  # no weight of the classifier trains
        norm_eval=True,  # nor do its running statistics move
        adapters=dict(reduction=16),  # these do, beside its blocks
        backbone=_base_.classifier,
    ),
    neck=dict(in_channels=_base_.classifier_channels),
)

default_hooks = dict(frozen_guard=dict(state='partial'))  # adapters train
