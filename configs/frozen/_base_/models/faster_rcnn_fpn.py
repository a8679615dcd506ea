"""Faster R-CNN of the authors' settings, with FPN over P2 to P6.

The experiment sets the backbone and neck.in_channels.
"""

_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

# TensorFlow's momentum 0.997 is the share of the old statistics that stays
norm_cfg = dict(type='SyncBN', momentum=0.003, eps=1e-4)
act_cfg = dict(type='SiLU')  # swish

model = dict(
    type='BatchedTwoStageDetector',
    data_preprocessor=dict(type='BatchedDetDataPreprocessor'),
    neck=dict(
        add_extra_convs='on_output',  # P6
        no_norm_on_lateral=True,
        norm_cfg=norm_cfg,
    ),
    rpn_head=dict(
        type='NormActRPNHead', num_convs=1, norm_cfg=norm_cfg, act_cfg=act_cfg
    ),
    roi_head=dict(
        type='BatchedStandardRoIHead',
        bbox_roi_extractor=dict(type='Float32RoIExtractor'),
        bbox_head=dict(
            type='NormActConvFCBBoxHead',
            num_shared_convs=4,
            num_shared_fcs=2,
            conv_out_channels=256,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        ),
    ),
)
