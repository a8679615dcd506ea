"""Copy-paste by its properties, and beside MMDetection's where it is right."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mmfrozen.mask_crops import Crop
from mmfrozen.transforms import CompactMasks, SimpleCopyPaste
from mmfrozen.transforms.painting import Piece

from .scenes import HEIGHT, WIDTH, freeze, pair, scene, with_polygons

SEEDS = st.integers(0, 2**31)
COUNTS = st.integers(0, 6)
TYPES = st.sampled_from([np.uint8, np.int16, np.float32, np.float64, np.int64])
CHEAP = settings(deadline=None, max_examples=80)


def paste(results, seed=0, **options):
    np.random.seed(seed)
    return SimpleCopyPaste(**options)(results)


def split(result, results):
    """Masks of what was there, and of what was pasted."""
    masks = result['gt_masks'].masks.astype(bool)
    pasted = np.flatnonzero(~is_old(result, results))
    old = np.flatnonzero(is_old(result, results))
    return masks[old], masks[pasted]


def is_old(result, results):
    """Pasted objects stand last, and have the source's own masks."""
    source = results['mix_results'][0]['gt_masks'].masks.astype(bool)
    masks = result['gt_masks'].masks.astype(bool)
    found = np.ones(len(masks), bool)
    for i in range(len(masks) - 1, -1, -1):
        if not any(np.array_equal(masks[i], s) for s in source):
            break
        found[i] = False
    return found


@CHEAP
@given(SEEDS, COUNTS, COUNTS, TYPES)
def test_pixels_come_from_the_one_or_the_other(seed, there, other, dtype):
    results = pair(seed, there, other, dtype=dtype)
    result = paste(copy.deepcopy(results), seed)
    assert result['img'].dtype == dtype
    _, pasted = split(result, results)
    inside = pasted.any(0) if len(pasted) else np.zeros((HEIGHT, WIDTH), bool)
    source = results['mix_results'][0]['img']
    np.testing.assert_array_equal(
        result['img'], np.where(inside[..., None], source, results['img'])
    )


@CHEAP
@given(SEEDS, COUNTS, COUNTS)
def test_masks_are_disjoint_and_areas_add_up(seed, there, other):
    results = pair(seed, there, other)
    options = dict(bbox_occluded_thr=1e9)  # nothing that is seen is dropped
    result = paste(copy.deepcopy(results), seed, **options)
    masks = result['gt_masks'].masks
    assert masks.sum(0).max(initial=0) <= 1
    before = results['gt_masks'].masks.sum(0).astype(bool)
    _, pasted = split(result, results)
    union = before | (pasted.any(0) if len(pasted) else False)
    assert result['gt_masks'].areas.sum() == masks.sum() == union.sum()


@CHEAP
@given(SEEDS, COUNTS, COUNTS)
def test_boxes_are_tight_and_no_mask_is_empty(seed, there, other):
    result = paste(pair(seed, there, other, ignored=0.2), seed)
    masks = BitmapMasks(result['gt_masks'].masks, HEIGHT, WIDTH)
    assert masks.masks.any((1, 2)).all()
    tight = masks.get_bboxes('hbox').tensor
    assert torch.equal(result['gt_bboxes'].tensor, tight)
    assert result['gt_bboxes'].tensor.dtype == torch.float32


@CHEAP
@given(SEEDS, COUNTS, COUNTS)
def test_labels_and_flags_stay_with_their_objects(seed, there, other):
    results = pair(seed, there, other, ignored=0.3)
    for which, one in enumerate((results, results['mix_results'][0])):
        # a label for each object
        count = len(one['gt_bboxes_labels'])
        one['gt_bboxes_labels'] = 100 * which + np.arange(count)
    result = paste(copy.deepcopy(results), seed)
    old = results['gt_masks'].masks.astype(bool)
    new = results['mix_results'][0]['gt_masks'].masks.astype(bool)
    assert (
        len(result['gt_bboxes'])
        == len(result['gt_bboxes_labels'])
        == len(result['gt_ignore_flags'])
        == len(result['gt_masks'])
    )
    assert result['gt_bboxes_labels'].dtype == np.int64
    assert result['gt_ignore_flags'].dtype == bool
    for label, ignored, mask in zip(
        result['gt_bboxes_labels'],
        result['gt_ignore_flags'],
        result['gt_masks'].masks.astype(bool),
        strict=True,
    ):
        if label < 100:  # a part of what it was
            assert not (mask & ~old[label]).any()
            assert ignored == results['gt_ignore_flags'][label]
        else:
            np.testing.assert_array_equal(mask, new[label - 100])
            assert not ignored


@CHEAP
@given(SEEDS, COUNTS, COUNTS, st.booleans())
def test_inputs_are_never_modified(seed, there, other, compact):
    results = pair(seed, there, other, ignored=0.2)
    if compact:
        for one in (results, results['mix_results'][0]):
            one['gt_masks'] = CompactMasks.of(one['gt_masks'])
    before = freeze(results)
    result = paste(results, seed)
    result['img'][:] = 0 if result is not results else result['img']
    if result is not results:
        result['gt_masks'].masks[:] = 0
        result['gt_bboxes'].tensor[:] = 0
    assert freeze(results) == before


@CHEAP
@given(SEEDS, COUNTS, COUNTS)
def test_nothing_selected_changes_nothing(seed, there, other):
    results = pair(seed, there, other)
    before = freeze(results)
    for options in (dict(prob=0), dict(max_num_pasted=1)):
        assert freeze(paste(results, seed, **options)) == before


@CHEAP
@given(SEEDS, st.integers(1, 4), st.integers(1, 4))
def test_polygons_and_bitmaps_give_the_same(seed, there, other):
    polygons, bitmaps = with_polygons(seed, there)
    sources = with_polygons(seed + 1, other)
    results = []
    for one, source in zip((polygons, bitmaps), sources, strict=True):
        one['mix_results'] = [source]
        result = {**paste(one, seed, selected=False), 'mix_results': None}
        # masks are left as they came where nothing could be pasted
        result['gt_masks'] = CompactMasks.of(result['gt_masks'])
        results.append(freeze(result))
    assert results[0] == results[1]


@CHEAP
@given(SEEDS, COUNTS, COUNTS)
def test_other_keys_are_kept(seed, there, other):
    results = pair(seed, there, other)
    result = paste(results, seed)
    changed = {
        'img',
        'gt_bboxes',
        'gt_bboxes_labels',
        'gt_ignore_flags',
        'gt_masks',
    }
    assert result.keys() == results.keys()
    for key in results.keys() - changed:
        assert result[key] is results[key]


@CHEAP
@given(SEEDS, COUNTS, COUNTS, st.booleans())
def test_it_is_mmdetections_where_that_is_right(seed, there, other, selected):
    """Same draw, no crowds, no object hidden completely: the same sample."""
    results = pair(seed, there, other, disjoint=False)
    np.random.seed(seed)
    stock = TRANSFORMS.build(dict(type='mmdet.CopyPaste', selected=selected))(
        copy.deepcopy(results)
    )
    result = paste(results, seed, selected=selected)
    np.testing.assert_array_equal(result['img'], stock['img'])
    right = stock['gt_masks'].masks.any((1, 2))  # it keeps empty ones
    assert torch.equal(
        result['gt_bboxes'].tensor, stock['gt_bboxes'].tensor[right]
    )
    np.testing.assert_array_equal(
        result['gt_masks'].masks, stock['gt_masks'].masks[right]
    )
    for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
        np.testing.assert_array_equal(result[key], stock[key][right])


def square(left, top, size, label=0, ignored=False):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + size, left : left + size] = 1
    return mask, label, ignored


def image_of(*objects, fill=0):
    masks = BitmapMasks([one[0] for one in objects], HEIGHT, WIDTH)
    return dict(
        img=np.full((HEIGHT, WIDTH, 3), fill, np.uint8),
        gt_bboxes=masks.get_bboxes('hbox'),
        gt_bboxes_labels=np.array([one[1] for one in objects], np.int64),
        gt_ignore_flags=np.array([one[2] for one in objects], bool),
        gt_masks=masks,
    )


def over(destination, source, **options):
    destination['mix_results'] = [source]
    return paste(destination, selected=False, **options)


def test_an_object_near_the_origin_that_is_hidden_is_dropped():
    """MMDetection's keeps it: its box of zeros has hardly moved."""
    result = over(image_of(square(0, 0, 8)), image_of(square(0, 0, 9, 1)))
    assert result['gt_bboxes_labels'].tolist() == [1]


@pytest.mark.parametrize(
    ('left', 'options', 'stays'),
    [
        (10, {}, True),  # its box moves by 10
        (9, {}, False),  # by 11, and 9 x 20 pixels are seen
        (9, dict(bbox_occluded_thr=11), True),
        (9, dict(mask_occluded_thr=179), True),
        (9, dict(mask_occluded_thr=180), False),
    ],
)
def test_hardly_visible_objects_are_dropped_by_thresholds(
    left, options, stays
):
    cover = square(left, 0, 40, 1)
    result = over(image_of(square(0, 0, 20)), image_of(cover), **options)
    assert (0 in result['gt_bboxes_labels']) == stays


def test_crowds_are_not_pasted():
    result = over(
        image_of(square(30, 0, 5)),
        image_of(square(0, 0, 9, 1, ignored=True), square(20, 20, 9, 2)),
    )
    assert result['gt_bboxes_labels'].tolist() == [0, 2]
    assert not result['gt_ignore_flags'].any()


def test_a_region_to_ignore_is_ignored_to_its_last_pixel():
    crowd = square(0, 0, 20, ignored=True)
    result = over(image_of(crowd), image_of(square(1, 0, 40, 1)))
    assert result['gt_ignore_flags'].tolist() == [True, False]
    assert result['gt_bboxes'].tensor[0].tolist() == [0, 0, 1, 20]
    result = over(image_of(crowd), image_of(square(0, 0, 40, 1)))
    assert result['gt_bboxes_labels'].tolist() == [1]


def test_untouched_boxes_stay_as_annotated():
    destination = image_of(square(40, 30, 8))
    loose = torch.tensor([[38.5, 28.25, 50, 40]])
    destination['gt_bboxes'] = HorizontalBoxes(loose)
    result = over(destination, image_of(square(0, 0, 9, 1)))
    assert torch.equal(result['gt_bboxes'].tensor[:1], loose)


def test_empty_images_are_harmless():
    full, empty = image_of(square(0, 0, 9, 1)), image_of()
    assert len(over(image_of(), copy.deepcopy(full))['gt_bboxes']) == 1
    assert len(over(copy.deepcopy(full), image_of())['gt_bboxes']) == 1
    assert len(over(image_of(), empty)['gt_masks']) == 0


def test_objects_without_a_mask_are_not_pasted():
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8), 1, False
    result = over(image_of(square(0, 0, 9)), image_of(nothing))
    assert result['gt_bboxes_labels'].tolist() == [0]


@pytest.mark.parametrize('as_array', [False, True])
def test_boxes_are_pasted_where_there_are_no_masks(as_array):
    destination = image_of(square(0, 0, 20), square(40, 20, 8, 3))
    source = image_of(square(10, 0, 20, 1), fill=200)
    for one in (destination, source):
        del one['gt_masks']
        if as_array:
            one['gt_bboxes'] = one['gt_bboxes'].numpy()
    result = over(destination, source, paste_by_box=True)
    assert 'gt_masks' not in result
    assert result['gt_bboxes_labels'].tolist() == [0, 3, 1]
    boxes = result['gt_bboxes']
    assert isinstance(boxes, np.ndarray) == as_array
    boxes = boxes if as_array else boxes.numpy()
    assert boxes[0].tolist() == [0, 0, 10, 20]
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[0:20, 10:30] = True
    np.testing.assert_array_equal(result['img'][..., 0] == 200, inside)


@CHEAP
@given(SEEDS, st.sampled_from([np.uint8, np.float32]))
def test_blending_fades_inwards_only(seed, dtype):
    results = pair(seed, 2, 2, dtype=dtype)
    hard = paste(results, seed, selected=False)
    soft = paste(results, seed, selected=False, blend_sigma=2.0)
    assume(len(results['mix_results'][0]['gt_masks']))
    union = results['mix_results'][0]['gt_masks'].masks.any(0)
    np.testing.assert_array_equal(soft['img'][~union], results['img'][~union])
    assert soft['img'].dtype == dtype
    low = np.minimum(results['img'], hard['img']) - 1e-3
    high = np.maximum(results['img'], hard['img']) + 1e-3
    assert ((soft['img'] >= low) & (soft['img'] <= high)).all()
    assert (soft['img'] != hard['img']).any()
    np.testing.assert_array_equal(
        soft['gt_masks'].masks, hard['gt_masks'].masks
    )


def test_semantic_maps_follow():
    destination, source = image_of(square(0, 0, 9)), image_of(square(4, 4, 9))
    destination['gt_seg_map'] = np.full((HEIGHT, WIDTH), 7, np.uint8)
    source['gt_seg_map'] = np.full((HEIGHT, WIDTH), 8, np.uint8)
    found = over(destination, source)['gt_seg_map']
    np.testing.assert_array_equal(found == 8, source['gt_masks'].masks[0] == 1)
    assert (destination['gt_seg_map'] == 7).all()
    del source['gt_seg_map']
    assert (over(destination, source)['gt_seg_map'] == 255).sum() == 81


def test_grey_images_are_pasted():
    results = pair(3, 2, 3)
    for one in (results, results['mix_results'][0]):
        one['img'] = one['img'][..., 0]
    result = paste(results, selected=False)
    union = results['mix_results'][0]['gt_masks'].masks.any(0)
    expected = np.where(
        union, results['mix_results'][0]['img'], results['img']
    )
    np.testing.assert_array_equal(result['img'], expected)


def refused(results, *words, **options):
    with pytest.raises((ValueError, TypeError)) as caught:
        SimpleCopyPaste(**options)(results)
    message = str(caught.value)
    assert '\n' not in message
    for word in (*words, 'must', 'got'):
        assert word in message, message


def test_missing_masks_are_refused():
    results = pair(1, 2, 2)
    del results['mix_results'][0]['gt_masks']
    refused(results, 'gt_masks', 'with_mask=True', 'paste_by_box=True')


def test_images_of_two_sizes_are_refused():
    results = pair(1, 2, 2)
    results['mix_results'][0]['img'] = np.zeros((9, 9, 3), np.uint8)
    refused(results, '(48, 64, 3)', '(9, 9, 3)', 'Pad')


def test_masks_of_another_size_than_the_image_are_refused():
    results = pair(1, 2, 2)
    results['gt_masks'] = results['gt_masks'].pad((60, 70))
    refused(results, 'gt_masks', '(48, 64)', '(60, 70)', selected=False)


def test_a_missing_image_to_paste_from_is_refused():
    refused(scene(1, 2), 'mix_results', 'CopyPasteDataset')


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(prob=1.5), ['prob', '1.5']),
        (dict(prob='often'), ['prob', 'often']),
        (dict(max_num_pasted=0), ['max_num_pasted', '0']),
        (dict(bbox_occluded_thr=-1), ['bbox_occluded_thr', '-1']),
        (dict(blend_sigma=None), ['blend_sigma', 'None']),
        (dict(max_num_past=5), ['max_num_past', "mean 'max_num_pasted'"]),
        (
            dict(sources=dict(type='RareSource')),
            ["did you mean 'mmfrozen.RareSources'"],
        ),
        (dict(sources='bank'), ['sources', 'ObjectBank', "dict(type='"]),
    ],
    ids=str,
)
def test_wrong_options_are_refused_at_construction(options, words):
    refused(None, *words, **options)


def test_a_cut_piece_has_pixels_and_labels_of_its_part():
    grid = np.arange(12).reshape(3, 4)
    whole = Piece(
        Crop(10, 20, np.ones((3, 4), np.uint8)),
        np.stack([grid] * 3, axis=-1),
        np.array([10, 20, 14, 23], np.float32),
        label=0,
        segments=grid,
    )
    part = whole.cut_to(Crop(11, 21, np.ones((2, 2), np.uint8)))
    assert part.segments.tolist() == [[5, 6], [9, 10]]
    assert (part.pixels[..., 0] == part.segments).all()
    assert part.box.tolist() == [11, 21, 13, 23]
