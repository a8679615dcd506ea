"""The main experiment with IRFS (docs/long_tail.md).

    mim train mmdet configs/frozen/mask_rcnn_r101_irfs_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

train_dataloader = dict(
    dataset=dict(type='mmfrozen.InstanceAwareRepeatFactorDataset')
)
