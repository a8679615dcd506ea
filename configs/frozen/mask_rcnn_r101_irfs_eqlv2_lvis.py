"""The main experiment with IRFS and EQLv2 (docs/long_tail.md).

    mim train mmdet configs/frozen/mask_rcnn_r101_irfs_eqlv2_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(
            cls_predictor_cfg=dict(
                type='mmfrozen.PriorLinear',
                prior_prob=0.001,  # the authors'
            ),
            loss_cls=dict(
                _delete_=True,  # drops cross-entropy
                type='mmfrozen.EQLv2',
                num_classes=1203,
            ),
        ),
    ),
)
train_dataloader = dict(
    dataset=dict(type='mmfrozen.InstanceAwareRepeatFactorDataset')
)
