"""Mask R-CNN with a small NAS-FPN on a frozen EfficientNet-Lite0: the demo.

    make demo    # or, once the data and weights are prepared:
    mim train mmdet configs/frozen/mask_rcnn_lite0_mini-lvis.py --gpus 0

2 CPU cores, 4 images a step. Box AP 12.9, mask AP 11.2 after 350 steps, one
seed.
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
)

default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=50),
    drift=dict(interval=50),
)
log_processor = dict(by_epoch=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
