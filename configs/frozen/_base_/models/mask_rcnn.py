"""Mask R-CNN with the capacity that makes freezing pay: NAS-FPN over P3 to
P7 and a box head of 4 convolutions and 2 fully connected layers.

The experiment sets the backbone, neck.in_channels and num_classes.
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    neck=dict(
        _delete_=True,  # drops the host's FPN
        type='AnySizeNASFPN',
        out_channels=256,
        num_outs=5,
        stack_times=5,  # the paper's; the host's own config has 7
        start_level=1,  # from C3
        norm_cfg=dict(type='SyncBN'),
        act_cfg=dict(type='SiLU'),
    ),
    rpn_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64, 128])),
    roi_head=dict(
        # an RoI of 224 pixels reads P4, as in the paper; without P2 the
        # finest level serves everything below
        bbox_roi_extractor=dict(
            featmap_strides=[8, 16, 32, 64, 128], finest_scale=112
        ),
        bbox_head=dict(
            _delete_=True,  # drops the host's Shared2FCBBoxHead
            type='ConvFCBBoxHead',
            num_shared_convs=4,
            num_shared_fcs=2,
            in_channels=256,
            conv_out_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            norm_cfg=dict(type='SyncBN'),
            num_classes=80,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
            loss_bbox=dict(type='L1Loss'),
        ),
        mask_roi_extractor=dict(
            featmap_strides=[8, 16, 32, 64, 128], finest_scale=112
        ),
    ),
)
