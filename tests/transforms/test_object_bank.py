"""The bank: bounded, exact, and laid out at random."""

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS, TASK_UTILS

from mmfrozen.transforms import SimpleCopyPaste
from mmfrozen.transforms.class_index import index_classes
from mmfrozen.transforms.crops import decode, encode

from .datasets import lvis, lvis_config, mixed
from .test_copy_paste import image_of, square


def bank(dataset, **options):
    made = TASK_UTILS.build(dict(type='ObjectBank', **options))
    made.prepare(dataset)
    return made


def cut_outs(made):
    for entry in made.entries:
        yield entry, *made._cut_out(entry)


def test_it_keeps_the_pixels_and_masks_of_every_object(mini_lvis):
    dataset = lvis(mini_lvis)
    made = bank(dataset, max_class_images=24)
    expected = []
    for i in range(24):
        info = dataset.get_data_info(i)
        image = cv2.imread(info['img_path'])
        for one in info['instances']:
            crop = decode(encode(one['mask'], *image.shape[:2]))
            if min(crop.bitmap.shape) >= 2:
                pixels = np.ascontiguousarray(crop.window(image))
                expected.append(
                    (one['bbox_label'], pixels.tobytes(), crop.bitmap.tolist())
                )
    found = [
        (entry.label, pixels.tobytes(), bitmap.tolist())
        for entry, pixels, bitmap in cut_outs(made)
    ]
    assert sorted(found) == sorted(expected)
    assert len(made) == len(expected) > 50


def test_images_that_do_not_have_8_bits_are_refused(mini_lvis):
    config = lvis_config(mini_lvis)
    config['pipeline'] = [dict(type='LoadImageFromFile', to_float32=True)]
    with pytest.raises(ValueError, match='with 8 bits per channel, got'):
        bank(DATASETS.build(config), max_class_images=24)


@pytest.mark.parametrize('max_bytes', [20_000, 60_000])
def test_it_stays_within_its_memory_and_takes_the_rarest_first(
    mini_lvis, max_bytes
):
    dataset = lvis(mini_lvis)
    made = bank(dataset, max_bytes=max_bytes, max_class_images=24)
    assert max_bytes / 3 < made.buffer.nbytes <= max_bytes
    count = index_classes(dataset).num_images
    full = bank(dataset, max_class_images=24)
    kept = {entry.label for entry in made.entries}
    left = {entry.label for entry in full.entries} - kept
    assert left and max(count[[*kept]]) <= min(count[[*left]])


def test_only_a_budget_that_is_too_small_is_told_to_be_raised(mini_lvis):
    dataset = lvis(mini_lvis)
    with pytest.raises(ValueError, match='ObjectBank.max_bytes.*Raise it'):
        bank(dataset, max_bytes=9, max_class_images=24)
    get = dataset.get_data_info

    def bare(index):
        info = get(index)
        for one in info['instances']:
            one.pop('mask', None)
        return info

    dataset.get_data_info = bare
    with pytest.raises(ValueError, match='paste_by_box=True') as caught:
        bank(dataset, max_class_images=24)
    assert 'with_mask=False' in str(caught.value)
    assert 'max_bytes' not in str(caught.value)


def test_large_objects_are_stored_smaller(mini_lvis):
    dataset = lvis(mini_lvis)
    made = bank(dataset, max_side=16, max_class_images=24)
    shapes = [entry.shape for entry in made.entries]
    assert max(max(shape[:2]) for shape in shapes) == 16
    assert min(entry.scale for entry in made.entries) < 1


def test_objects_that_are_stored_smaller_are_pasted_at_their_size(mini_lvis):
    dataset = lvis(mini_lvis)
    full, small = (
        bank(dataset, max_class_images=24, max_side=side) for side in (512, 32)
    )
    for seed in range(40):
        found = []
        for made in (full, small):
            np.random.seed(seed)
            found += made.pieces(96, 128)[:1]
        sizes = [np.array(piece.crop.bitmap.shape) for piece in found]
        assert abs(sizes[0] - sizes[-1]).max() <= 4


def test_pieces_lie_inside_the_image_with_tight_boxes(mini_lvis):
    made = bank(lvis(mini_lvis), max_class_images=24, num_objects=(3, 6))
    np.random.seed(0)
    for _ in range(50):
        for piece in made.pieces(40, 70):
            left, top, right, bottom = piece.crop.box
            assert 0 <= left < right <= 70 and 0 <= top < bottom <= 40
            assert piece.box.tolist() == [left, top, right, bottom]
            assert piece.pixels.shape[:2] == piece.crop.bitmap.shape
            for lines in (piece.crop.bitmap, piece.crop.bitmap.T):
                assert lines[0].any() and lines[-1].any()


@pytest.mark.parametrize('mirrored', [False, True])
def test_objects_at_their_own_size_keep_their_pixels(mini_lvis, mirrored):
    """Scale 1 in an image of the size that they come from."""
    made = bank(
        lvis(mini_lvis),
        max_class_images=24,
        ratio_range=(1, 1),
        flip_prob=float(mirrored),
        num_objects=(1, 1),
    )
    way = -1 if mirrored else 1
    known = {
        (entry.label, (pixels * bitmap[..., None])[:, ::way].tobytes())
        for entry, pixels, bitmap in cut_outs(made)
    }
    np.random.seed(0)
    for _ in range(30):
        (piece,) = made.pieces(96, 128)
        seen = piece.pixels * piece.crop.bitmap[..., None]
        assert (piece.label, np.ascontiguousarray(seen).tobytes()) in known


def _counted(call, calls):
    def counted(results):
        calls.append(results)
        return call(results)

    return counted


def test_a_bank_loads_no_second_image(mini_lvis, monkeypatch):
    dataset = DATASETS.build(
        mixed(lvis_config(mini_lvis), sources=dict(type='ObjectBank'))
    )
    loaded = []
    load = dataset.dataset.pipeline.transforms[0]
    monkeypatch.setattr(load, 'transform', _counted(load.transform, loaded))
    dataset[0]
    assert len(loaded) == 1


def test_later_objects_cover_earlier_ones(mini_lvis):
    transform = SimpleCopyPaste(dict(type='ObjectBank', num_objects=(8, 8)))
    transform.prepare(lvis(mini_lvis))
    for seed in range(20):
        np.random.seed(seed)
        result = transform(image_of(square(0, 0, 30)))
        masks = result['gt_masks'].masks
        assert masks.any((1, 2)).all()
        assert masks.sum(0).max() == 1
        boxes = result['gt_bboxes'].tensor
        tight = result['gt_masks'].get_bboxes('hbox').tensor
        assert (boxes == tight).all()


def test_classes_can_be_named(mini_lvis):
    dataset = lvis(mini_lvis)
    label = dataset.get_data_info(0)['instances'][0]['bbox_label']
    name = dataset.metainfo['classes'][label]
    made = bank(dataset, classes=[name])
    assert {entry.label for entry in made.entries} == {label}


def test_what_lies_inside_an_object_comes_along(mini_lvis):
    """Where the data know of other classes, the bank notes what it carries."""
    dataset = lvis(mini_lvis, federated=True)
    made = bank(dataset, max_class_images=24)
    expected = []
    for i in range(24):
        info = dataset.get_data_info(i)
        crops = [
            decode(encode(one['mask'], 96, 128)) for one in info['instances']
        ]
        whole = np.zeros((len(crops), 96, 128), bool)
        for mask, crop in zip(whole, crops, strict=True):
            crop.window(mask)[...] = crop.bitmap
        labels = np.array([one['bbox_label'] for one in info['instances']])
        for k, crop in enumerate(crops):
            overlaps = (whole & whole[k]).any((1, 2))
            overlaps[k] = False
            if min(crop.bitmap.shape) >= 2:
                overlapping_labels = tuple(
                    sorted(set(labels[overlaps].tolist()))
                )
                expected.append((int(labels[k]), overlapping_labels))
    found = [(entry.label, entry.overlapping_labels) for entry in made.entries]
    assert sorted(found) == sorted(expected)
    plain = bank(lvis(mini_lvis), max_class_images=24)
    assert not any(entry.overlapping_labels for entry in plain.entries)
