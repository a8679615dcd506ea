"""Cascade Mask R-CNN of Copy-Paste's EfficientNet-B7 recipe (tensorflow/tpu).

Its first stage has IoU 0.6; its RPN has 2 convolutions and 9 anchors. The
experiment sets the backbone and neck.in_channels.
"""

_base_ = './cascade_mask_rcnn.py'

stages = [(0.6, _base_.stages[0][1]), *_base_.stages[1:]]

model = dict(
    rpn_head=dict(
        num_convs=2,
        anchor_generator=dict(
            # 3 scales x 3 ratios of size 4 x stride
            scales=None,
            octave_base_scale=4,
            scales_per_octave=3,
        ),
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                rcnn,
                assigner=dict(
                    rcnn.assigner,
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                ),
            )
            for rcnn, (iou, _) in zip(
                _base_.model.train_cfg.rcnn, stages, strict=True
            )
        ]
    ),
)
