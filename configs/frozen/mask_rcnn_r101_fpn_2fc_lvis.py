"""Capacity ladder, rung 1: Mask R-CNN with FPN, box head of 2 layers, LVIS v1.

    mim train mmdet configs/frozen/mask_rcnn_r101_fpn_2fc_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_fpn_lvis.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(num_shared_convs=0)  # 2 fully connected layers alone
    )
)
