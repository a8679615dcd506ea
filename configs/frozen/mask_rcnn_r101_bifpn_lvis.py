"""Capacity ladder, rung 3: Mask R-CNN with BiFPN, LVIS v1.

    mim train mmdet configs/frozen/mask_rcnn_r101_bifpn_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

model = dict(
    neck=dict(
        _delete_=True,  # drops NAS-FPN
        type='AnySizeBiFPN',
        in_channels=[256, 512, 1024, 2048],
        start_level=1,  # from C3
        out_channels=256,
        num_outs=5,
        stack_times=5,
        norm_cfg=_base_.norm_cfg,
        act_cfg=_base_.act_cfg,
    )
)
