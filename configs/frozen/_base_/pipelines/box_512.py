"""Scale jitter of 0.7 to 1.4 at 512 x 512, boxes alone: for a CPU."""

lsj_size = (512, 512)  # height, width

lsj_train = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomResize',
        scale=lsj_size,
        ratio_range=(0.7, 1.4),
        keep_ratio=True,
    ),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=lsj_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=lsj_size, pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs'),
]
lsj_test = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=lsj_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
    ),
]
