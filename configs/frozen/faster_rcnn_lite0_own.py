"""Faster R-CNN with a small NAS-FPN on a frozen Lite0: your own boxes, a CPU.

Annotations are in COCO's format; masks are not needed. Change classes and
data_root below, nothing else; docs/own_data.md goes through it.

    mmfrozen lite0-weights
    mim train mmdet configs/frozen/faster_rcnn_lite0_own.py --gpus 0

2 CPU cores, 2 images a step. Box AP: not run.
"""

_base_ = [
    './_base_/models/mask_rcnn_small.py',
    './_base_/classifiers/lite0.py',
    './_base_/datasets/coco_box_512.py',
    './_base_/schedules/demo.py',
    './_base_/runtime.py',
]

classes = ('cat', 'dog')  # as the annotation files name them
data_root = 'data/own/'  # with images/, train.json and val.json

model = dict(
    backbone=dict(
        _delete_=True,  # drops the ResNet
        type='FrozenBackbone',
        frozen=True,  # nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        backbone=_base_.classifier,
    ),
    roi_head=dict(
        bbox_head=dict(num_classes=len(classes)),
        mask_roi_extractor=None,  # boxes alone
        mask_head=None,
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

default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=50),
    drift=dict(interval=50),
)
log_processor = dict(by_epoch=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
