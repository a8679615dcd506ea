"""Cascade Mask R-CNN with NAS-FPN on a frozen EfficientNet-B7, LVIS v1.

Noisy Student weights, whose teacher saw JFT-300M, in place of the paper's.
Copy-Paste on top of large scale jitter.

    mim train mmdet configs/frozen/cascade_mask_rcnn_b7-ns_390e_scp_lvis.py

32 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = [
    './_base_/models/cascade_mask_rcnn_b7.py',
    './_base_/classifiers/b7-ns.py',
    './_base_/datasets/lvis_scp_1280.py',
    './_base_/schedules/390e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,  # drops the ResNet
        type='FrozenBackbone',
        frozen=True,  # nothing in it trains
        norm_eval=True,  # nor do its running statistics move
        backbone=_base_.classifier,
    ),
    neck=dict(in_channels=_base_.classifier_channels),
    roi_head=dict(
        bbox_head=[
            dict(head, num_classes=1203)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(num_classes=1203),
    ),
    # LVIS keeps 300 detections an image, whatever their score
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)
