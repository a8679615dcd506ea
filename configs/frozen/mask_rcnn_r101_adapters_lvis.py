"""Mask R-CNN with NAS-FPN and residual adapters on a frozen R101, LVIS v1.

Adapters after Rebuffi et al. 2017, the identity at first. The classifier
stays bitwise what it was.

    mim train mmdet configs/frozen/mask_rcnn_r101_adapters_lvis.py

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
        _delete_=True,  # ResNet's own freezing would stop the adapters
        type='FrozenBackbone',
        frozen=True,  # no weight of the classifier trains
        norm_eval=True,  # nor do its running statistics move
        adapters=dict(reduction=16),  # these do, beside its blocks
        backbone=dict(
            type='ResNet',
            depth=101,
            init_cfg=dict(
                type='Pretrained', checkpoint='torchvision://resnet101'
            ),
        ),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
    roi_head=dict(
        bbox_head=dict(num_classes=1203), mask_head=dict(num_classes=1203)
    ),
    # LVIS keeps 300 detections an image, whatever their score
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)

default_hooks = dict(frozen_guard=dict(state='partial'))  # adapters train
