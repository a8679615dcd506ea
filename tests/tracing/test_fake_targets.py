"""Made-up objects, proposals and predictions."""

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps

from mmfrozen.tracing.fake_targets import (
    boxes_at,
    make_samples,
    object_boxes,
    proposal_boxes,
)

SIZE = (480, 640)


@pytest.mark.parametrize('size', (SIZE, (64, 64), (100, 1000)))
def test_objects_keep_size_and_place_as_they_multiply(size):
    many = object_boxes(100, *size)
    assert torch.equal(many[:8], object_boxes(8, *size))
    assert (many >= 0).all()
    assert (many[:, 2:] <= torch.tensor(size[::-1]) + 1e-3).all()
    assert (many[:, 2:] > many[:, :2]).all()


def test_objects_have_the_sizes_of_coco():
    boxes = object_boxes(8, *SIZE)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) / (SIZE[0] * SIZE[1])
    scale = area.sqrt().log()
    assert scale.mean().exp() == pytest.approx(0.106, rel=0.03)
    # of a log-normal distribution: the first decile is at -1.28 deviations
    decile = (scale.mean() - 1.28 * scale.std(correction=0)).exp()
    assert decile == pytest.approx(0.024, rel=0.15)


@pytest.mark.parametrize('objects', (1, 7, 100))
@pytest.mark.parametrize('count, positives', ((2000, 500), (40, 10), (3, 0)))
def test_proposals_are_positive_and_negative_as_asked(
    objects, count, positives
):
    objects = object_boxes(objects, *SIZE)
    boxes = proposal_boxes(objects, count, positives, *SIZE)
    best = bbox_overlaps(boxes, objects).amax(1)
    assert boxes.shape == (count, 4)
    assert (best[:positives] > 0.8).all()
    assert (best[positives:] < 0.3).all()


def test_proposals_without_an_object_are_negative():
    assert proposal_boxes(torch.zeros(0, 4), 9, 3, *SIZE).shape == (9, 4)


def test_predictions_are_those_of_a_trained_detector():
    objects = torch.tensor([[0.0, 0, 100, 100], [40, 40, 60, 60]])
    centres = torch.tensor([[10.0, 10], [50, 50], [200, 200]])
    found = bbox_overlaps(boxes_at(centres, objects), objects)
    assert 0.7 < found[0, 0] < 0.9
    assert 0.7 < found[1, 1] < 0.9, 'the smaller of two'
    assert found[2].max() == 0
    assert boxes_at(centres, torch.zeros(0, 4)).shape == (3, 4)


def test_samples_have_masks_and_text_where_they_are_asked_for():
    (plain,) = make_samples(1, SIZE, objects=3, num_classes=9, masks=False)
    assert 'masks' not in plain.gt_instances
    assert 'text' not in plain
    assert 'tokens_positive' not in plain
    (full,) = make_samples(
        1, SIZE, objects=3, num_classes=9, text=('cat', 'dog')
    )
    assert full.gt_instances.masks.masks.any(axis=(1, 2)).all()
    assert full.text == ('cat', 'dog') and full.custom_entities
    assert full.gt_instances.labels.tolist() == [0, 1, 0]
