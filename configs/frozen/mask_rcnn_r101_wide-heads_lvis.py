"""Capacity ladder, rung 9: Mask R-CNN with NAS-FPN and wide heads, LVIS v1.

    mim train mmdet configs/frozen/mask_rcnn_r101_wide-heads_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

model = dict(
    rpn_head=dict(feat_channels=512),
    roi_head=dict(
        bbox_head=dict(conv_out_channels=512, fc_out_channels=2048),
        mask_head=dict(num_convs=8, conv_out_channels=512),
    ),
)
