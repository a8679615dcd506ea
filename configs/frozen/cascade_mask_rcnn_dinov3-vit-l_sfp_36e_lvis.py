"""Cascade Mask R-CNN on a frozen DINOv3 ViT-L, LVIS v1.

    mim train mmdet \\
        configs/frozen/cascade_mask_rcnn_dinov3-vit-l_sfp_36e_lvis.py

8 GPUs x 8 images. Box and mask AP, APr: not run.
"""

_base_ = [
    './_base_/models/cascade_mask_rcnn_fpn.py',
    './_base_/classifiers/dinov3-vit-l.py',
    './_base_/datasets/lvis_mask_1280.py',
    './_base_/schedules/36e.py',
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
    neck=dict(
        _delete_=True,  # drops FPN: there is one map
        type='mmfrozen.SimpleFeaturePyramid',
        in_channels=_base_.classifier_channels,
        out_channels=256,
        strides=(4, 8, 16, 32, 64),  # P2 to P6
    ),
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
