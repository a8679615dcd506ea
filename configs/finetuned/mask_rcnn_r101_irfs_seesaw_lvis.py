"""Control of the frozen experiment of this name: every stage trains.

    mim train mmdet configs/finetuned/mask_rcnn_r101_irfs_seesaw_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = '../frozen/mask_rcnn_r101_irfs_seesaw_lvis.py'

model = dict(
    backbone=dict(
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type='SyncBN'),  # statistics over the batch of 64
    )
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
