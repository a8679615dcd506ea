"""The main experiment with Seesaw loss (docs/long_tail.md).

    mim train mmdet configs/frozen/mask_rcnn_r101_seesaw_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(
            cls_predictor_cfg=dict(
                type='NormedLinear',
                tempearture=20,  # so MMDetection spells it
            ),
            loss_cls=dict(
                _delete_=True,  # drops cross-entropy
                type='SeesawLoss',
                num_classes=1203,
            ),
        ),
    ),
)
