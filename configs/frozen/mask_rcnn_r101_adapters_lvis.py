"""Mask R-CNN with NAS-FPN and residual adapters on a frozen R101, LVIS v1.

Adapters after Rebuffi et al. 2017, the identity at first. The classifier
stays bitwise what it was.

    mim train mmdet configs/frozen/mask_rcnn_r101_adapters_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

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
    )
)

default_hooks = dict(frozen_guard=dict(state='partial'))  # adapters train
