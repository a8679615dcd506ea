"""Copy-Paste on large scale jitter of 0.1 to 2.0 at 1280 x 1280."""

lsj_size = (1280, 1280)  # height, width

# of each of the two images; masks are drawn after the crop
lsj_train = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmfrozen.LoadCompactAnnotations', with_bbox=True, with_mask=True
    ),
    dict(
        type='RandomResize',
        scale=lsj_size,
        ratio_range=(0.1, 2.0),
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
]
paste_train = [
    dict(type='mmfrozen.SimpleCopyPaste'),
    dict(type='PackDetInputs'),
]
lsj_test = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=lsj_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
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
