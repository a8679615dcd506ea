"""Control of the frozen experiment of this name: every stage trains.

    mim train mmdet configs/finetuned/cascade_mask_rcnn_b7-ns_390e_scp_lvis.py

32 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = '../frozen/cascade_mask_rcnn_b7-ns_390e_scp_lvis.py'

model = dict(
    backbone=dict(
        frozen=False,
        norm_eval=False,
        backbone=dict(sync_bn=True),  # statistics over the batch of 256
    )
)
default_hooks = dict(frozen_guard=dict(state='finetuned'))
