"""Configs of small data sets on mini-LVIS."""

from mmdet.registry import DATASETS

SIZE = (96, 64)

LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadCompactAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomResize', scale=SIZE, ratio_range=(0.5, 2), keep_ratio=True
    ),
    dict(
        type='RandomCrop',
        crop_size=SIZE,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=SIZE),
]


def lvis_config(root, **options):
    defaults = dict(
        type='CheckedLVISV1Dataset',
        data_root=str(root),
        data_prefix=dict(img=''),
        ann_file='annotations/lvis_v1_train.json',
        filter_cfg=dict(filter_empty_gt=True),
        check_images=False,
        pipeline=LOAD,
    )
    return {**defaults, **options}


def lvis(root, **options):
    return DATASETS.build(lvis_config(root, **options))


def mixed(inner, kind='CopyPasteDataset', pipeline=None, **paste):
    return dict(
        type=kind,
        dataset=inner,
        pipeline=pipeline
        or [
            dict(type='SimpleCopyPaste', **paste),
            dict(type='PackDetInputs'),
        ],
    )


def balanced(inner):
    return dict(type='ClassBalancedDataset', oversample_thr=0.2, dataset=inner)
