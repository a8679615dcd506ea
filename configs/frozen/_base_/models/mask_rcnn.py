"""Mask R-CNN with the capacity that makes freezing pay: NAS-FPN over P3 to
P7 and a box head of 4 convolutions and 2 fully connected layers.

The experiment sets the backbone and neck.in_channels, and num_classes where
it is not that of COCO.
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# TensorFlow's momentum 0.997 is the share of the old statistics that stays
norm_cfg = dict(type='SyncBN', momentum=0.003, eps=1e-4)
act_cfg = dict(type='SiLU')  # swish
strides = [8, 16, 32, 64, 128]

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
        type='BatchedStandardRoIHead',
        # an RoI of 224 pixels reads P4, as in the paper; without P2 the
        # finest level serves everything below
        bbox_roi_extractor=dict(
            type='Float32RoIExtractor',
            featmap_strides=strides,
            finest_scale=112,
        ),
        bbox_head=dict(
            type='NormActConvFCBBoxHead',
            num_shared_convs=4,
            num_shared_fcs=2,
            conv_out_channels=256,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        ),
        mask_roi_extractor=dict(
            type='Float32RoIExtractor',
            featmap_strides=strides,
            finest_scale=112,
        ),
    ),
)
