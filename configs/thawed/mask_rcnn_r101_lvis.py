"""Second phase of ../frozen/mask_rcnn_r101_lvis.py: every stage trains.

    mim train mmdet configs/thawed/mask_rcnn_r101_lvis.py \\
        --work-dir work_dirs/thawed/mask_rcnn_r101_lvis

Starts from the frozen run's last checkpoint; a tenth of its rate, 12 epochs.
8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = '../frozen/mask_rcnn_r101_lvis.py'

load_from = 'work_dirs/frozen/mask_rcnn_r101_lvis/epoch_72.pth'

model = dict(
    backbone=dict(
        frozen_stages=-1,
        norm_eval=True,  # the statistics that the detector was trained on
    )
)

max_epochs = 12
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.16 / 10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        milestones=[8, 11],
        gamma=0.1,
    ),
]
default_hooks = dict(frozen_guard=dict(state='thawed'))
