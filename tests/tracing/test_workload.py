"""What a step works on, read from configs as people write them."""

import pytest
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper

from mmfrozen.config_file import ZOO
from mmfrozen.tracing.workload import (
    Workload,
    find_varying,
    read_classes,
    read_dtype,
    read_masks,
    read_shape,
    read_workload,
    set_rois,
)


def config(*steps, preprocessor=None, **loader):
    dataset = dict(type='CocoDataset', pipeline=list(steps))
    return Config(
        dict(
            model=dict(type='M', data_preprocessor=preprocessor or {}),
            train_dataloader=dict(dataset=dataset, **loader),
        )
    )


@pytest.mark.parametrize(
    'name, shape',
    (
        ('retinanet/retinanet_r50_fpn_1x_coco.py', (800, 1344)),
        ('mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py', (800, 1344)),
        (
            'mask_rcnn/mask-rcnn_r50_fpn_8xb8-amp-lsj-200e_coco.py',
            (1024, 1024),
        ),
        ('yolox/yolox_s_8xb8-300e_coco.py', (640, 640)),
        ('rtmdet/rtmdet_s_8xb32-300e_coco.py', (640, 640)),
        ('ssd/ssd300_coco.py', (300, 300)),
        ('detr/detr_r50_8xb2-150e_coco.py', (800, 1333)),
        (
            'cornernet/cornernet_hourglass104_10xb5-crop511-210e-mstest_coco.py',
            (511, 511),
        ),
    ),
)
def test_host_configs_have_the_shape_that_they_train_on(name, shape):
    assert read_shape(Config.fromfile(ZOO / name))[0] == shape


@pytest.mark.parametrize(
    'steps, shape',
    (
        ([dict(type='Resize', scale=(640, 480))], (480, 640)),
        ([dict(type='Resize', scale=(480, 640), keep_ratio=True)], (480, 640)),
        ([dict(type='RandomResize', scale=(100, 80), ratio_range=(0.5, 2))],
         (160, 200)),
        ([dict(type='RandomResize', scale=[(1333, 640), (1333, 800)])],
         (800, 1333)),
        ([dict(type='Resize', scale=(900, 900)),
          dict(type='RandomCrop', crop_size=(500, 300))], (300, 500)),
        ([dict(type='Resize', scale=(90, 90)),
          dict(type='Pad', size_divisor=32)], (96, 96)),
        ([dict(type='RandomChoice', transforms=[
            [dict(type='Resize', scale=(10, 10))],
            [dict(type='Resize', scale=(20, 10))]])], (10, 20)),
        ([dict(type='mmdet.FixShapeResize', width=7, height=5)], (5, 7)),
    ),
)  # fmt: skip
def test_each_transform_says_what_it_makes(steps, shape):
    assert read_shape(config(*steps))[0] == shape


def test_preprocessor_pads_last():
    steps = [dict(type='Resize', scale=(90, 90))]
    padded = config(*steps, preprocessor=dict(pad_size_divisor=32))
    assert read_shape(padded)[0] == (96, 96)
    augment = dict(type='BatchFixedSizePad', size=(128, 256))
    fixed = config(*steps, preprocessor=dict(batch_augments=[augment]))
    assert read_shape(fixed) == (
        (128, 256),
        'BatchFixedSizePad of model.data_preprocessor',
    )


def test_unknown_shape_and_batch_ask_for_an_option():
    with pytest.raises(ValueError, match='got none.*--shape HEIGHT WIDTH'):
        read_workload(config(batch_size=2))
    with pytest.raises(ValueError, match='Set --batch-size'):
        read_workload(config(), shape=(8, 8))
    assert read_workload(config(), shape=(8, 8), batch_size=3) == Workload(
        (8, 8), 'as set', 3
    )


@pytest.mark.parametrize(
    'wrapper, dtype',
    (
        (dict(type='OptimWrapper'), 'fp32'),
        (dict(type='AmpOptimWrapper'), 'fp16'),
        (dict(type='AmpOptimWrapper', dtype='bfloat16'), 'bf16'),
    ),
)
def test_dtype_is_that_of_the_optimizer_wrapper(wrapper, dtype):
    cfg = config(batch_size=1)
    cfg.optim_wrapper = wrapper
    assert read_workload(cfg, shape=(8, 8)).dtype == dtype


def test_regions_need_a_sampler():
    work = Workload((8, 8), '', 1, rois=9)
    with pytest.raises(ValueError, match='--rois and --positives must have'):
        set_rois(Config(dict(model=dict(type='RetinaNet'))).model, work)


@pytest.mark.parametrize(
    'kind', ['AmpOptimWrapper', 'mmengine.AmpOptimWrapper', AmpOptimWrapper]
)
def test_autocast_is_seen_however_its_type_is_written(kind):
    wrapper = dict(type=kind, dtype='bfloat16')
    assert read_dtype(Config(dict(optim_wrapper=wrapper))) == 'bf16'


@pytest.mark.parametrize(
    'steps, masks',
    (
        ([dict(type='LoadAnnotations', with_bbox=True)], False),
        ([dict(type='LoadAnnotations', with_bbox=True, with_mask=True)], True),
        ([dict(type='LoadPanopticAnnotations', with_bbox=True)], True),
        ([dict(type='Resize', scale=(8, 8))], True),
    ),
)
def test_objects_have_masks_where_the_pipeline_loads_them(steps, masks):
    assert read_masks(config(*steps)) == masks


def test_classes_are_those_of_the_data_set():
    cfg = config()
    assert read_classes(cfg)[:2] == ('person', 'bicycle')
    cfg.train_dataloader.dataset.metainfo = dict(classes=['cat', 'dog'])
    assert read_classes(cfg) == ('cat', 'dog')
    cfg.train_dataloader.dataset = dict(type='VOCDataset')
    assert read_classes(cfg)[0] == 'aeroplane'
    assert len(read_classes(Config())) == 80


RESIZE = dict(type='RandomResize', scale=(64, 64), keep_ratio=True)
CROP = dict(type='RandomCrop', crop_size=(64, 64))
PAD = dict(type='Pad', size=(64, 64))


@pytest.mark.parametrize(
    'steps, batch_augment, varying',
    (
        ([RESIZE, CROP, PAD], None, None),  # large scale jitter
        ([RESIZE, CROP], None, 'RandomResize'),
        ([RESIZE, dict(type='Pad', size_divisor=32)], None, 'RandomResize'),
        ([PAD, dict(CROP, crop_type='relative')], None, 'RandomCrop'),
        ([dict(type='Resize', scale=(8, 8))], None, None),
        ([dict(type='Resize', scale=(8, 8), keep_ratio=True)], None, 'Resize'),
        ([dict(type='Mosaic'), dict(type='RandomAffine')], None, None),
        ([dict(type='Mosaic'), RESIZE], None, 'RandomResize'),
        ([dict(type='RandomFlip')], None, None),
        (
            [RESIZE],
            dict(type='BatchFixedSizePad', size=(64, 64)),
            None,
        ),
        (
            [PAD],
            dict(type='BatchSyncRandomResize', random_size_range=(32, 96)),
            'BatchSyncRandomResize',
        ),
    ),
)
def test_what_gives_images_different_sizes_is_named(
    steps, batch_augment, varying
):
    augments = [batch_augment] if batch_augment else []
    cfg = config(*steps, preprocessor=dict(batch_augments=augments))
    assert find_varying(cfg) == varying
