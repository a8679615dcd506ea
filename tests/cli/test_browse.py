"""The sheet of augmented samples, for this pack's configs and others."""

import sys
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from mmfrozen.reports.augmentation_sheet import (
    COLOURS,
    Sample,
    draw_sheet,
    group_of,
    sample_of,
)
from mmfrozen.transforms import CompactMasks
from mmfrozen_cli import browse as tool
from tests.transforms.scenes import scene

CONFIG = """
default_scope = 'mmdet'
custom_imports = dict(imports=['mmfrozen'])
train_dataloader = dict(dataset=dict(
    type='CopyPasteDataset',
    dataset=dict(
        type='CheckedLVISV1Dataset',
        data_root={root!r},
        data_prefix=dict(img=''),
        ann_file='annotations/lvis_v1_train.json',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadCompactAnnotations', with_mask=True)]),
    pipeline=[
        dict(type='SimpleCopyPaste'), dict(type='PackDetInputs')]))
"""


@pytest.fixture
def config(tmp_path, mini_lvis):
    path = tmp_path / 'mine.py'
    path.write_text(CONFIG.format(root=str(mini_lvis)))
    return path


@pytest.fixture
def run(config, tmp_path, monkeypatch, capsys):
    """Run the tool as from a folder, without another Python."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['browse', str(config), *args])
        status = tool.main()
        return status, *capsys.readouterr()

    return run


def test_a_sheet_is_drawn_and_the_same_again(run, tmp_path):
    for args in (('--out', 'a.png'), ()):
        status, out, err = run('--num', '5', *args)
        assert status == 0, err
        assert '5 samples' in out and out.count('\n') == 1
    # its own name is that of the config
    assert (tmp_path / 'a.png').read_bytes() == (
        tmp_path / 'mine.png'
    ).read_bytes()
    assert min(cv2.imread(str(tmp_path / 'a.png')).shape[:2]) > 500


@pytest.mark.parametrize(
    ('args', 'word'),
    [
        (['--out', 'there.png'], '--force'),
        (['--out', 'x.jpg'], '.png'),
        (['--num', '0'], '--num'),
        (
            [
                '--cfg-options',
                'train_dataloader.dataset.pipeline.0.max_num_past=3',
            ],
            'max_num_pasted',
        ),
        (
            [
                '--cfg-options',
                'train_dataloader.dataset.dataset.data_root=/nowhere',
            ],
            '/nowhere',
        ),
        (['--cfg-options', 'train_dataloadr.batch_size=2'], 'dataloader'),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else '',
)
def test_wrong_use_is_refused_in_one_line(run, tmp_path, args, word):
    (tmp_path / 'there.png').touch()
    status, out, err = run(*args)
    assert status == 2 and out == ''
    lines = [x for x in err.splitlines() if x.startswith('error:')]
    assert len(lines) == 1 and word in lines[0]
    assert not (tmp_path / 'there.png').read_bytes()


def packed(results):
    """As PackDetInputs has it."""
    sample = DetDataSample(metainfo=dict(img_path=results['img_path']))
    for name, flag in (('gt', False), ('ignored', True)):
        chosen = results['gt_ignore_flags'] == flag
        sample.set_data(
            {
                f'{name}_instances': InstanceData(
                    bboxes=results['gt_bboxes'][chosen],
                    labels=torch.from_numpy(
                        results['gt_bboxes_labels'][chosen]
                    ),
                    masks=results['gt_masks'][np.flatnonzero(chosen)],
                )
            }
        )
    image = torch.from_numpy(results['img']).permute(2, 0, 1)
    return dict(inputs=image, data_samples=sample)


@pytest.mark.parametrize('pack', [packed, dict])
def test_samples_are_read_packed_or_not(pack):
    results = scene(4, 5, ignored=0.5)
    sample = sample_of(pack(results))
    np.testing.assert_array_equal(sample.image, results['img'][..., ::-1])
    assert sorted(sample.labels) == sorted(results['gt_bboxes_labels'])
    assert sample.ignored.sum() == results['gt_ignore_flags'].sum()
    for box, lines in zip(sample.boxes, sample.outlines, strict=True):
        points = np.concatenate(lines)
        assert box.tolist() == [*points.min(0), *(points.max(0) + 1)]


def test_a_large_image_with_many_masks_is_reduced_to_its_tile():
    """Whole bitmaps would be 7 GB."""
    height, width, count = 3120, 4160, 570
    left, top = np.arange(count) * 6, np.arange(count) * 4
    boxes = np.stack([left, top, left + 600, top + 500], 1).astype(np.float32)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].astype(np.float64)
    masks = PolygonMasks([[c] for c in corners], height, width)
    results = dict(
        img=np.zeros((height, width, 3), np.uint8),
        img_path='big.jpg',
        gt_bboxes=boxes,
        gt_bboxes_labels=np.zeros(count, int),
        gt_ignore_flags=np.zeros(count, bool),
        gt_masks=CompactMasks.of(masks),
    )
    for item in (results, packed(results)):
        tracemalloc.start()
        sample = sample_of(item)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 48 * 2**20
        assert sample.image.shape == (384, 512, 3)
        found = [np.concatenate(lines) for lines in sample.outlines]
        around = [[*x.min(0), *(x.max(0) + 1)] for x in found]
        np.testing.assert_allclose(sample.boxes, around, atol=1)


def test_holes_of_a_mask_are_not_tinted():
    results = scene(4, 1, ignored=0)
    bitmap = np.zeros((1, 48, 64), np.uint8)
    bitmap[:, 4:40, 4:40] = 1
    bitmap[:, 12:32, 12:32] = 0
    results['gt_masks'] = BitmapMasks(bitmap, 48, 64)
    results['gt_bboxes'] = results['gt_bboxes'][:1]
    results['gt_bboxes_labels'] = np.array([0])
    results['gt_ignore_flags'] = np.array([False])
    results['img'] = np.zeros_like(results['img'])
    figure = draw_sheet([sample_of(results)], ['a'], np.array([500]), '')
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1]
    places = figure.axes[0].transData.transform([(8, 20), (20, 20)])
    (red, green, blue), hole = (
        pixels[int(y), int(x), :3].tolist() for x, y in places
    )
    assert blue > green > red  # as classes of many images
    assert hole == [0, 0, 0]


def test_several_branches_show_their_first():
    item = packed(scene(4, 2))
    branches = {key: {'sup': value} for key, value in item.items()}
    assert sample_of(branches).image.shape == (48, 64, 3)


def test_what_is_no_sample_is_refused():
    with pytest.raises(ValueError, match='PackDetInputs'):
        sample_of([1, 2])


@pytest.mark.parametrize('channels', [1, 3, 6])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_images_of_any_kind_are_shown(channels, dtype):
    image = np.linspace(-2, 2, 20 * 30 * channels).astype(dtype)
    item = dict(img=image.reshape(20, 30, channels))
    sample = sample_of(item)
    assert sample.image.shape == (20, 30, 3)
    assert sample.image.dtype == np.uint8
    assert dtype == np.uint8 or np.ptp(sample.image) > 250


def test_colours_follow_the_number_of_images():
    assert [group_of(n) for n in (1, 10, 11, 100, 101)] == [
        'rare',
        'rare',
        'common',
        'common',
        'frequent',
    ]
    results = scene(4, 3, ignored=0)
    results['gt_bboxes_labels'] = np.arange(len(results['gt_bboxes']))
    results['gt_masks'] = CompactMasks.of(results['gt_masks'])
    sample = sample_of(results)
    counts = np.array([5, 50, 500])
    figure = draw_sheet([sample], ['a', 'b', 'c'], counts, 'title')
    colours = {
        text.get_text(): text.get_bbox_patch().get_facecolor()[:3]
        for text in figure.axes[0].texts
    }
    from matplotlib.colors import to_rgb

    known = dict(a='rare', b='common', c='frequent')
    assert colours
    for name, colour in colours.items():
        assert colour == to_rgb(COLOURS[known[name]])


def test_samples_without_objects_or_boxes_are_drawn():
    image = np.zeros((20, 30, 3), np.uint8)
    none = np.zeros(0, int)
    samples = [
        Sample(image, None, none, None, none.astype(bool), ''),
        Sample(image, np.zeros((0, 4)), none, None, none.astype(bool), 'x'),
        Sample(image, None, np.array([7]), None, np.array([True]), 'y'),
    ]
    figure = draw_sheet(samples, [], np.zeros(0), 'title')
    figure.canvas.draw()
    assert len(figure.axes) == 3
