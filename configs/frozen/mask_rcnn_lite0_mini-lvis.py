"""Mask R-CNN with a small NAS-FPN on a frozen EfficientNet-Lite0: the demo.

    make demo    # or, once the data and weights are prepared:
    mim train mmdet configs/frozen/mask_rcnn_lite0_mini-lvis.py --gpus 0

2 CPU cores, 4 images a step. See README for its table.
"""

_base_ = [
    './_base_/models/mask_rcnn.py',
    './_base_/datasets/mini-lvis.py',
    './_base_/schedules/demo.py',
    './_base_/runtime.py',
]

width = 128
num_rois = 64  # an image, of which half may be positive

model = dict(
    # EfficientNet-Lite's own normalisation
    data_preprocessor=dict(
        mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]
    ),
    backbone=dict(
        _delete_=True,  # drops the ResNet
        type='FrozenBackbone',
        frozen=True,  # nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        backbone=dict(
            type='TimmBackbone',
            model_name='tf_efficientnet_lite0',
            out_indices=(2, 3, 4),  # C3 to C5
            init_cfg=dict(
                type='Pretrained',
                checkpoint='data/weights/'
                'tf_efficientnet_lite0-2b4a5f7e.safetensors',
            ),
        ),
    ),
    neck=dict(
        in_channels=[40, 112, 320],
        out_channels=width,
        start_level=0,  # C3 is the first that the backbone returns
        stack_times=1,
        norm_cfg=dict(type='BN'),
    ),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(scales=[3]),  # 24 to 384 pixels
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, finest_scale=56),
        bbox_head=dict(
            num_shared_convs=0,  # 4 learn too slowly for so few steps
            in_channels=width,
            reg_class_agnostic=True,
            num_classes=1203,
        ),
        mask_roi_extractor=dict(out_channels=width, finest_scale=56),
        mask_head=dict(
            num_convs=2,
            in_channels=width,
            conv_out_channels=64,
            class_agnostic=True,
            num_classes=1203,
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(sampler=dict(num=num_rois, pos_fraction=0.5)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=100),
        rcnn=dict(score_thr=5e-3, max_per_img=100, nms=dict(split_thr=500)),
    ),
)

default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=50),
    drift=dict(interval=50),
)
log_processor = dict(by_epoch=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
