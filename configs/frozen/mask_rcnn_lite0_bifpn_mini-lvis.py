"""The demo with a BiFPN: Mask R-CNN on a frozen EfficientNet-Lite0.

    mim train mmdet configs/frozen/mask_rcnn_lite0_bifpn_mini-lvis.py --gpus 0

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
        frozen=True,  # nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        backbone=_base_.classifier,
    ),
    neck=dict(
        _delete_=True,  # drops NAS-FPN
        type='AnySizeBiFPN',
        in_channels=_base_.classifier_channels,
        out_channels=128,
        num_outs=5,
        stack_times=3,
        norm_cfg=dict(type='BN'),
    ),
)

default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=50),
    drift=dict(interval=50),
)
log_processor = dict(by_epoch=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
