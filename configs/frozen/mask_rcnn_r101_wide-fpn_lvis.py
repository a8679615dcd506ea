"""Capacity ladder, rung 5: Mask R-CNN with an FPN of 512 channels, LVIS v1.

    mim train mmdet configs/frozen/mask_rcnn_r101_wide-fpn_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_fpn_lvis.py'

model = dict(
    neck=dict(out_channels=512),
    rpn_head=dict(in_channels=512, feat_channels=512),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=512),
        bbox_head=dict(in_channels=512),
        mask_roi_extractor=dict(out_channels=512),
        mask_head=dict(in_channels=512),
    ),
)
