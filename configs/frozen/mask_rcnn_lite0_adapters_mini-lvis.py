"""The demo with residual adapters beside a frozen EfficientNet-Lite0.

    mim train mmdet configs/frozen/mask_rcnn_lite0_adapters_mini-lvis.py \\
        --gpus 0

2 CPU cores, 4 images a step. Box and mask AP: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn_small.py',
    './_base_/classifiers/lite0.py',
    './_base_/datasets/mini-lvis.py',
    './_base_/schedules/demo.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,  # drops the ResNet
        type='FrozenBackbone',
        frozen=True,  # no weight of the classifier trains
        norm_eval=True,  # nor do its running statistics move
        adapters=dict(reduction=4),  # these do, beside its blocks
        backbone=_base_.classifier,
    ),
)

default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=50),
    drift=dict(interval=50),
    frozen_guard=dict(state='partial'),  # adapters train
)
log_processor = dict(by_epoch=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
