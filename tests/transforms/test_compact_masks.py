"""Compact masks are MMDetection's bitmaps, bit by bit."""

import copy
import pickle

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from mmfrozen.mask_crops import Crop, tighten
from mmfrozen.transforms import CompactMasks
from mmfrozen.transforms.compact_masks import nearest, rectangles
from mmfrozen.transforms.crops import decode, encode

from .scenes import polygons, scene

SEEDS = st.integers(0, 2**31)
CHEAP = settings(deadline=None, max_examples=60)


def draw_annotation(rng, height, width):
    """Polygons or one of the three forms of RLE that COCO files have."""
    form = rng.randint(4)
    if form == 0:
        return [p.tolist() for p in polygons(rng, height, width)]
    bitmap = (rng.rand(height, width) < rng.choice([0, 0.05, 0.5, 1])).astype(
        np.uint8
    )
    rle = coco_mask.encode(np.asfortranarray(bitmap))
    if form == 1:
        return rle
    if form == 2:
        return dict(size=rle['size'], counts=rle['counts'].decode())
    flat = np.concatenate(([0], bitmap.T.ravel()))
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate(([0], ends, [bitmap.size])))
    return dict(size=[height, width], counts=counts.tolist())


def change(masks, rng_seed):
    """One random step of a pipeline."""
    rng = np.random.RandomState(rng_seed)
    height, width = masks.height, masks.width
    step = rng.randint(5)
    if step == 0 and min(height, width) > 10:
        return masks.rescale(tuple(rng.randint(40, 200, 2).tolist()))
    if step <= 1:
        return masks.resize(tuple(rng.randint(20, 100, 2).tolist()))
    if step == 2:
        way = rng.choice(['horizontal', 'vertical', 'diagonal'])
        return masks.flip(str(way))
    if step == 3:
        left = rng.randint(0, max(width - 8, 1))
        top = rng.randint(0, max(height - 8, 1))
        size = rng.randint(8, 90, 2)
        return masks.crop(np.array([left, top, left + size[0], top + size[1]]))
    return masks.pad((height + rng.randint(9), width + rng.randint(9)))


@CHEAP
@given(SEEDS, st.integers(0, 5), st.integers(0, 6))
def test_any_chain_of_steps_gives_mmdetections_bitmaps(seed, count, num_steps):
    rng = np.random.RandomState(seed)
    height, width = rng.randint(20, 80, 2).tolist()
    annotations = [draw_annotation(rng, height, width) for _ in range(count)]
    load = LoadAnnotations(with_mask=True)._poly2mask
    stock = BitmapMasks(
        [load(one, height, width) for one in annotations], height, width
    )
    ours = CompactMasks(
        [encode(one, height, width) for one in annotations], height, width
    )
    for step in range(num_steps):
        if rng.rand() < 0.3:
            assert len(ours.areas) == count  # draws the masks half-way
        ours, stock = change(ours, seed + step), change(stock, seed + step)
        assert isinstance(ours, CompactMasks)
    boxes = ours.get_bboxes('hbox').tensor
    assert torch.equal(boxes, stock.get_bboxes('hbox').tensor)
    assert boxes.dtype == torch.float32
    np.testing.assert_array_equal(ours.areas, stock.areas)
    assert ours._masks is None, 'whole bitmaps were made without need'
    assert ours.masks.dtype == np.uint8
    assert ours.masks.shape == stock.masks.shape
    np.testing.assert_array_equal(ours.masks, stock.masks)


@CHEAP
@given(st.integers(1, 700), st.integers(1, 2100))
def test_nearest_is_what_opencv_takes_in_two_dimensions(size, new_size):
    column = np.arange(size)[:, None]
    image = np.broadcast_to(column, (size, 7))
    low = BitmapMasks((image & 255).astype(np.uint8)[None], size, 7)
    high = BitmapMasks((image >> 8).astype(np.uint8)[None], size, 7)
    found = low.resize((new_size, 5)).masks[0].astype(int)
    found += high.resize((new_size, 5)).masks[0].astype(int) << 8
    np.testing.assert_array_equal(found[:, 0], nearest(size, new_size))


@CHEAP
@given(SEEDS)
def test_only_the_frame_is_drawn(seed):
    rng = np.random.RandomState(seed)
    runs = encode(draw_annotation(rng, 60, 70), 60, 70)
    whole = np.zeros((60, 70), np.uint8)
    crop = decode(runs)
    crop.window(whole)[...] = crop.bitmap
    seen = decode(runs, np.arange(10, 30), np.arange(20, 25))
    assert max(seen.bitmap.shape, default=0) <= 20
    frame = np.zeros((20, 5), np.uint8)
    seen.window(frame)[...] = seen.bitmap
    np.testing.assert_array_equal(frame, whole[10:30, 20:25])


@pytest.mark.parametrize(
    'index',
    [1, [2, 0], slice(1, None), np.array([True, False, True]), np.array([])],
    ids=str,
)
def test_selection_is_that_of_mmdetection(index):
    index = index if not isinstance(index, list) else np.array(index)
    if isinstance(index, np.ndarray) and not len(index):
        index = index.astype(int)
    stock = scene(3, 3)['gt_masks']
    ours = CompactMasks.of(stock)
    np.testing.assert_array_equal(ours[index].masks, stock[index].masks)


def test_copies_and_pickles_are_equal_and_small():
    stock = scene(1, 4)['gt_masks']
    ours = CompactMasks.of(stock)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        np.testing.assert_array_equal(other.masks, stock.masks)
    small = CompactMasks([Crop(5, 5, np.ones((4, 4), np.uint8))], 2000, 2000)
    assert len(pickle.dumps(small)) < 2000
    # views of whole bitmaps do not drag them along
    assert len(pickle.dumps(CompactMasks.of(small))) < 2000


def test_writing_to_whole_bitmaps_counts():
    ours = CompactMasks.of(scene(1, 3)['gt_masks'])
    ours.masks[:] = 0
    assert not ours.areas.any()
    assert not ours.get_bboxes('hbox').tensor.any()
    assert not ours.flip().masks.any()
    assert not copy.deepcopy(ours).masks.any()
    assert not pickle.loads(pickle.dumps(ours)).masks.any()


def test_mask_targets_are_those_of_mmdetection():
    stock = scene(5, 4)['gt_masks']
    ours = CompactMasks.of(stock)
    boxes = torch.tensor([[1.5, 2, 30, 40], [0, 0, 64, 48], [9, 9, 20.5, 21]])
    chosen = torch.tensor([2, 0, 2]) % len(stock)
    found = [
        masks.crop_and_resize(boxes, (14, 14), chosen, 'cpu').to_ndarray()
        for masks in (ours, stock)
    ]
    np.testing.assert_array_equal(*found)


def test_joined_masks_keep_their_order():
    first, second = scene(1, 3)['gt_masks'], scene(2, 2)['gt_masks']
    joined = CompactMasks.cat([CompactMasks.of(m) for m in (first, second)])
    np.testing.assert_array_equal(
        joined.masks, np.concatenate((first.masks, second.masks))
    )
    mixed = CompactMasks.cat([CompactMasks.of(first), second])
    np.testing.assert_array_equal(mixed.masks, joined.masks)


def test_bitmaps_of_other_types_become_zeros_and_ones():
    bitmap = np.zeros((1, 8, 8), np.int64)
    bitmap[0, 2:4, 3:7] = 300
    for masks in (bitmap, bitmap > 0, (bitmap > 0).astype(np.uint8) * 255):
        ours = CompactMasks.of(BitmapMasks(masks, 8, 8))
        assert ours.areas.tolist() == [8]
        assert ours.masks.max() == 1


def test_objects_without_polygons_are_empty():
    ours = CompactMasks.of(PolygonMasks([[np.zeros(6)]], 10, 10))
    assert ours.areas.tolist() == [0]
    assert encode([], 10, 10).box == (0, 0, 0, 0)
    assert tighten(3, 3, np.zeros((2, 2), np.uint8)).box == (0, 0, 0, 0)


def test_rectangles_are_those_of_mmdetection():
    boxes = scene(1, 4)['gt_bboxes']
    boxes.translate_((-3.5, 2.25))
    boxes.clip_((48, 64))
    np.testing.assert_array_equal(
        rectangles(boxes.tensor.numpy(), 48, 64).masks,
        boxes.create_masks((48, 64)).masks,
    )
