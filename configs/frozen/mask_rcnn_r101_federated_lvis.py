"""The main experiment with the federated loss (docs/long_tail.md).

    mim train mmdet configs/frozen/mask_rcnn_r101_federated_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = './mask_rcnn_r101_lvis.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(
            cls_predictor_cfg=dict(
                type='mmfrozen.PriorLinear', prior_prob=0.01
            ),
            loss_cls=dict(
                _delete_=True,  # drops cross-entropy
                type='mmfrozen.FederatedLoss',
                frequencies=_base_.data_root
                + 'annotations/lvis_v1_train.json',
                num_fed_classes=50,
            ),
        ),
    ),
    # Detectron2's on LVIS: below it are most sigmoids of 1,203 classes
    test_cfg=dict(rcnn=dict(score_thr=0.02)),
)
