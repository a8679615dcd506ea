"""RetinaNet with FPN on a frozen R50, COCO 2017, one GPU.

    mim train mmdet configs/frozen/retinanet_r50_fpn_12e_coco.py

1 GPU x 8 images. Box AP: not run.
"""

_base_ = [
    './_base_/models/retinanet_fpn.py',
    './_base_/datasets/coco_box_1024.py',
    './_base_/schedules/12e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        depth=50,
        frozen_stages=4,  # stem and all 4 stages: nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)

# RetinaNet's rate by the linear scaling rule: 0.32 x 8 / 256
optim_wrapper = dict(optimizer=dict(lr=0.32 * 8 / 256))
