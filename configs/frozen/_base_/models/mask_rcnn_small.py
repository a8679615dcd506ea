"""A small Mask R-CNN with NAS-FPN of 128 channels, for a laptop CPU.

The experiment sets the backbone; num_classes is that of LVIS.
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

width = 128
num_rois = 64  # an image, of which half may be positive
strides = [8, 16, 32, 64, 128]

model = dict(
    type='BatchedTwoStageDetector',
    # EfficientNet-Lite's own normalisation
    data_preprocessor=dict(
        type='BatchedDetDataPreprocessor',
        mean=[127.0, 127.0, 127.0],
        std=[128.0, 128.0, 128.0],
    ),
    neck=dict(
        _delete_=True,  # drops MMDetection's FPN
        type='AnySizeNASFPN',
        in_channels=[40, 112, 320],
        out_channels=width,
        num_outs=5,
        stack_times=1,
        start_level=0,  # C3 is the first that the backbone returns
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='SiLU'),
    ),
    rpn_head=dict(
        type='BatchedRPNHead',
        in_channels=width,
        feat_channels=width,
        # 24 to 384 pixels
        anchor_generator=dict(scales=[3], strides=strides),
    ),
    roi_head=dict(
        type='BatchedStandardRoIHead',
        bbox_roi_extractor=dict(
            out_channels=width, featmap_strides=strides, finest_scale=56
        ),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_convs=0,  # 4 learn too slowly for so few steps
            num_shared_fcs=2,
            in_channels=width,
            reg_class_agnostic=True,
            num_classes=1203,
        ),
        mask_roi_extractor=dict(
            out_channels=width, featmap_strides=strides, finest_scale=56
        ),
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
