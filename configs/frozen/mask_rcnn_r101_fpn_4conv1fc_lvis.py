"""Capacity ladder, rung 2: Mask R-CNN with FPN, box head 4 conv 1 fc, LVIS v1.

    mim train mmdet configs/frozen/mask_rcnn_r101_fpn_4conv1fc_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_fpn_lvis.py'

model = dict(roi_head=dict(bbox_head=dict(num_shared_fcs=1)))
