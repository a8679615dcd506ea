import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfrozen.mini_lvis.annotations import (
    annotation_record,
    category_records,
    frequency_of,
    mask_to_polygons,
)

from .test_compose import draw


def rasterise(polygons, shape) -> np.ndarray:
    parts = coco_mask.frPyObjects(polygons, *shape)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@given(
    centre=st.tuples(st.integers(0, 90), st.integers(0, 60)),
    axes=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    angle=st.integers(0, 180),
    hole=st.integers(0, 5),
)
def test_polygons_reproduce_an_ellipse_with_a_hole(centre, axes, angle, hole):
    canvas = np.zeros((70, 100), np.uint8)
    cv2.ellipse(canvas, centre, axes, angle, 0, 360, 1, -1)
    cv2.circle(canvas, centre, hole, 0, -1)
    mask = canvas.astype(bool)
    if mask.sum() > 100:
        assert iou(rasterise(mask_to_polygons(mask), mask.shape), mask) > 0.9


@pytest.mark.parametrize('seed', range(4))
def test_polygons_reproduce_composed_masks(seed):
    _, masks = draw(seed, 10, (192, 192))
    for mask in (mask for mask in masks.values() if mask.sum() > 100):
        assert iou(rasterise(mask_to_polygons(mask), mask.shape), mask) > 0.9


def test_box_of_a_record_is_tight():
    mask = np.zeros((40, 50), bool)
    mask[7:19, 11:30] = True
    record = annotation_record(5, 3, mask)
    assert record['bbox'] == [11, 7, 19, 12]
    assert record['area'] == 12 * 19


@pytest.mark.parametrize(
    ('count', 'group'),
    [(0, 'r'), (10, 'r'), (11, 'c'), (100, 'c'), (101, 'f')],
)
def test_frequency_groups_have_the_official_bounds(count, group):
    assert frequency_of(count) == group


def test_categories_count_images_and_instances():
    found = [{'image_id': image, 'category_id': 2} for image in (1, 1, 4)]
    records = category_records(found)
    assert len(records) == 1203 and records[1]['id'] == 2
    assert records[1]['image_count'] == 2
    assert records[1]['instance_count'] == 3
    assert records[0]['image_count'] == 0
