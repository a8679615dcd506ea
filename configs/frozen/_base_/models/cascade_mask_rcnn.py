"""Cascade Mask R-CNN of the authors' settings, with NAS-FPN over P3 to P7.

Three stages at IoU 0.5, 0.7, 0.8 with class-agnostic boxes; MMDetection
averages their class scores. The experiment sets the backbone and
neck.in_channels.
"""

_base_ = 'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py'

# TensorFlow's momentum 0.997 is the share of the old statistics that stays
norm_cfg = dict(type='SyncBN', momentum=0.003, eps=1e-4)
act_cfg = dict(type='SiLU')  # swish
strides = [8, 16, 32, 64, 128]
# a stage: IoU of its positives, spread of its box deltas
stages = [
    (0.5, [0.1, 0.1, 0.2, 0.2]),
    (0.7, [0.05, 0.05, 0.1, 0.1]),
    (0.8, [0.033, 0.033, 0.067, 0.067]),
]

model = dict(
    type='BatchedTwoStageDetector',
    data_preprocessor=dict(type='BatchedDetDataPreprocessor'),
    neck=dict(
        _delete_=True,  # drops MMDetection's FPN
        type='AnySizeNASFPN',
        out_channels=256,
        num_outs=5,
        stack_times=5,  # the paper's; MMDetection's own config has 7
        start_level=1,  # from C3
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    rpn_head=dict(
        type='NormActRPNHead',
        num_convs=1,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
        anchor_generator=dict(strides=strides),
    ),
    roi_head=dict(
        type='BatchedCascadeRoIHead',
        stage_loss_weights=[1 / 3, 1 / 3, 1 / 3],  # the mean of the stages
        # an RoI of 224 pixels reads P4, as in the paper; without P2 the
        # finest level serves everything below
        bbox_roi_extractor=dict(
            type='Float32RoIExtractor',
            featmap_strides=strides,
            finest_scale=112,
        ),
        bbox_head=[
            dict(
                type='NormActConvFCBBoxHead',
                num_shared_convs=4,
                num_shared_fcs=2,
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
                num_classes=80,
                reg_class_agnostic=True,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0),
            )
            for _, stds in stages
        ],
        mask_roi_extractor=dict(
            type='Float32RoIExtractor',
            featmap_strides=strides,
            finest_scale=112,
        ),
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=-1),  # anchors over the edge too
        rpn_proposal=dict(max_per_img=1000),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type='RandomSampler',
                    num=512,  # RoIs an image, of which 25 % positive
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True,
                ),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for iou, _ in stages
        ],
    ),
)
