"""Resampled images count as if they stood in the data set several times."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmfrozen  # noqa: F401  (lets lvis run on this numpy)
from mmfrozen.evaluation.bootstrap import (
    MIN_IMAGES,
    image_weights,
    lost_variance,
    lost_variance_of_mean,
    student_interval,
)
from mmfrozen.evaluation.match_detections import AREAS, match

from .official import make_case


def repeat_images(content, results, times):
    """Write every image as often as it was drawn."""
    content, results = copy.deepcopy((content, results))
    images, annotations, found = [], [], []
    for image in content['images']:
        for copy_ in range(times[image['id']]):
            new = image['id'] * 10 + copy_  # keeps the order of the images
            images.append({**image, 'id': new})
            for source, target in (
                (content['annotations'], annotations),
                (results, found),
            ):
                target += [
                    {**x, 'image_id': new}
                    for x in source
                    if x['image_id'] == image['id']
                ]
    for index, annotation in enumerate(annotations):
        annotation['id'] = index + 1
    return {**content, 'images': images, 'annotations': annotations}, found


@pytest.mark.parametrize('protocol', ['coco', 'lvis'])
@settings(max_examples=40, deadline=None, database=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_weights_equal_a_data_set_with_repeated_images(protocol, seed, data):
    random = np.random.default_rng(seed)
    content, results = make_case(
        random,
        images=4,
        categories=3,
        annotations=20,
        detections=60,
        levels=10**6,
    )
    options = dict(iou_type='bbox', protocol=protocol)
    matches = match(content, results, **options)
    weights = np.array(
        data.draw(
            st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any)
        )
    )
    times = dict(zip(matches.image_ids.tolist(), weights, strict=True))
    repeated = match(*repeat_images(content, results, times), **options)
    for area in AREAS:
        np.testing.assert_allclose(
            matches.ap_per_class(area=area, image_weights=weights),
            repeated.ap_per_class(area=area),
            atol=1e-12,
        )
        assert (
            matches.num_instances(area, weights)
            == repeated.num_instances(area)
        ).all()


def test_many_resamples_at_once_equal_one_at_a_time(monkeypatch):
    content, results = make_case(
        np.random.default_rng(1),
        images=9,
        categories=5,
        annotations=60,
        detections=300,
        levels=50,
    )
    matches = match(content, results, iou_type='bbox', protocol='lvis')
    weights = image_weights(9, 7)
    together = matches.ap_per_class(image_weights=weights)
    single = [matches.ap_per_class(image_weights=w) for w in weights]
    np.testing.assert_array_equal(together, single)
    # small tables: a few categories at a time
    monkeypatch.setattr('mmfrozen.evaluation.precision.TABLE', 20)
    monkeypatch.setattr('mmfrozen.evaluation.precision.FEW', 2)
    np.testing.assert_array_equal(
        matches.ap_per_class(image_weights=weights), together
    )
    once = np.ones((1, 9), int)
    np.testing.assert_array_equal(
        matches.ap_per_class(image_weights=once)[0], matches.ap_per_class()
    )


def test_weights_for_other_images_are_refused():
    content, results = make_case(
        np.random.default_rng(1),
        images=3,
        categories=2,
        annotations=6,
        detections=9,
        levels=5,
    )
    matches = match(content, results, iou_type='bbox', protocol='coco')
    with pytest.raises(ValueError, match='for each of 3 images, got 4'):
        matches.ap_per_class(image_weights=np.ones(4, int))


def test_same_seed_draws_the_same_images():
    first = image_weights(50, 20, seed=3)
    assert (first == image_weights(50, 20, seed=3)).all()
    assert (first != image_weights(50, 20, seed=4)).any()
    assert (first.sum(axis=1) == 50).all()
    assert image_weights(50, 0).shape == (0, 50)


def test_interval_leaves_absent_values_out_until_too_few_are_left():
    draws = np.tile(np.arange(101.0)[:, None], (1, 3))
    draws[60:, 1] = np.nan
    draws[40:, 2] = np.nan
    value = np.array([7.0, 7.0, 7.0])
    low, high = student_interval(value, draws, 0.9)
    errors = np.array([np.arange(n).std(ddof=1) for n in (101, 60)])
    np.testing.assert_allclose(high[:2], 7 + 1.6448536 * errors)
    np.testing.assert_allclose(low[:2] + high[:2], 14)
    assert np.isnan([low[2], high[2]]).all()
    assert np.isnan(student_interval(value, draws[:0], 0.9)).all()


def test_what_is_in_few_images_has_no_interval():
    draws = np.random.default_rng(0).normal(size=(50, 2))
    numbers = np.array([MIN_IMAGES - 1, MIN_IMAGES])
    low, high = student_interval(np.zeros(2), draws, 0.95, numbers)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]


@pytest.mark.parametrize('images', [20, 60])
def test_interval_covers_the_mean_as_often_as_it_says(images):
    random = np.random.default_rng(0)
    sets = 4000
    sample = random.normal(size=(images, sets))
    weights = image_weights(images, 200)
    low, high = student_interval(
        sample.mean(0),
        draws := weights @ sample / images,
        0.95,
        np.full(sets, images),
        lost_variance(draws, np.full(sets, images)),
    )
    covered = ((low <= 0) & (high >= 0)).mean()
    assert 0.94 < covered < 0.965  # normal quantiles: 0.93 of 20 images


def test_what_resamples_of_few_images_lack_is_added():
    """Of two images they vary by half; of one not at all."""
    draws = np.stack([[-1.0, -2.0, 3.0, np.nan], [1.0, 2.0, 3.0, np.nan]])
    lost = lost_variance(draws, np.array([2, 3, 1, 0]))
    np.testing.assert_allclose(lost[:2], [2 / 1, 8 / 2])
    assert lost[2] == np.mean([2 + 2, 8 + 4]) and np.isnan(lost[3])
    assert lost_variance_of_mean(lost) == pytest.approx(lost[:3].sum() / 9)
    assert lost_variance_of_mean(lost[3:]) == 0


def test_interval_covers_the_mean_of_many_rare_classes():
    """Two images a class: without what is lost, 83 % of the intervals do."""
    random = np.random.default_rng(0)
    covered = 0
    for number in range(300):
        owner = np.repeat(np.arange(50), 2)
        sample = random.normal(size=100)
        weights = image_weights(100, 100, number)
        table = np.eye(50)[owner]
        times = weights @ table
        with np.errstate(invalid='ignore', divide='ignore'):
            draws = (weights * sample) @ table / times
        value = np.array([sample.mean()])
        low, high = student_interval(
            value,
            np.nanmean(draws, axis=1)[:, None],
            0.95,
            np.array([100]),
            lost_variance_of_mean(lost_variance(draws, np.full(50, 2))),
        )
        covered += low[0] <= 0 <= high[0]
    assert 0.92 < covered / 300 < 0.99
