"""Bins, what they hold, and what they say of absent categories."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmfrozen  # noqa: F401  (lets lvis run on this numpy)
from mmfrozen.evaluation.bootstrap import image_weights
from mmfrozen.evaluation.ground_truth import GroundTruth
from mmfrozen.evaluation.match_detections import match
from mmfrozen.evaluation.strata import (
    default_bins,
    frequency_bins,
    log_spaced_bins,
    stated_counts,
    stratify,
    training_counts,
)

from .official import lvis_tables, make_case


@pytest.fixture(autouse=True)
def quiet():
    """lvis warns about each list of results."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def case(seed=0, **shape):
    default = dict(
        images=8, categories=6, annotations=50, detections=200, levels=1000
    )
    content, results = make_case(
        np.random.default_rng(seed), **{**default, **shape}
    )
    for index, category in enumerate(content['categories']):
        category.update(image_count=10**index, instance_count=4**index)
    return content, results


@given(
    counts=st.lists(st.integers(0, 10**6), min_size=1),
    per_decade=st.integers(1, 10),
)
@settings(max_examples=200, deadline=None, database=None)
def test_every_count_lies_in_exactly_one_bin_between_its_bounds(
    counts, per_decade
):
    bins = log_spaced_bins(np.array(counts), 'training_images', per_decade)
    for count, member in zip(counts, bins.members, strict=True):
        assert bins.lows[member] <= count <= bins.highs[member]
    for high, low in zip(bins.highs, bins.lows[1:], strict=False):
        assert low == high + 1
    assert len(bins.names) == len(bins.lows) == len(set(bins.names))


def test_bins_are_two_a_decade():
    bins = log_spaced_bins(np.array([0, 5, 2000]), 'training_images')
    assert bins.names == (
        '0', '1-3', '4-9', '10-31', '32-99', '100-316', '317-999',
        '1000-3162',
    )  # fmt: skip


@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@settings(max_examples=20, deadline=None, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_lvis_bins_are_the_official_apr_apc_and_apf(iou_type, seed):
    content, results = case(seed)
    *_, official = lvis_tables(content, results, iou_type, 300)
    matches = match(content, results, iou_type=iou_type, protocol='lvis')
    gt = GroundTruth.from_dict(content)
    for stratum in stratify(matches, [frequency_bins(gt)])[:3]:
        expected = official[f'AP{stratum.name}']
        if expected == -1:
            assert stratum.ap is None
        else:
            assert stratum.ap == pytest.approx(expected, abs=1e-12)


def test_strata_of_each_kind_sum_to_the_whole():
    content, results = case()
    gt = GroundTruth.from_dict(content)
    matches = match(content, results, iou_type='bbox', protocol='lvis')
    strata = stratify(matches, default_bins(gt, stated_counts(gt)))
    kinds = {x.by for x in strata}
    assert kinds == {
        'frequency',
        'training_annotations',
        'training_images',
        'size',
        'category',
    }
    for kind in kinds - {'size'}:
        own = [x for x in strata if x.by == kind]
        assert sum(x.num_categories for x in own) == 6
        assert sum(x.num_instances for x in own) == (
            matches.num_instances().sum()
        )
    assert [x.name for x in strata if x.by == 'size'] == [
        'small', 'medium', 'large'
    ]  # fmt: skip
    per_class = matches.ap_per_class()
    named = {x.name: x.ap for x in strata if x.by == 'category'}
    for name, ap in zip(matches.category_names, per_class, strict=True):
        assert named[name] == (None if np.isnan(ap) else ap)


def test_absent_categories_are_none_and_counted():
    content, results = case()
    gone = content['categories'][0]
    content['annotations'] = [
        x for x in content['annotations'] if x['category_id'] != gone['id']
    ]
    matches = match(content, results, iou_type='bbox', protocol='coco')
    gt = GroundTruth.from_dict(content)
    strata = stratify(matches, [frequency_bins(gt)], image_weights(8, 20))
    alone = next(x for x in strata if x.name == gone['name'])
    assert (alone.ap, alone.ap_low, alone.ap_high) == (None, None, None)
    assert (alone.num_absent, alone.num_instances) == (1, 0)
    bins = [x for x in strata if x.by == 'frequency']
    assert sum(x.num_absent for x in bins) == 1


def test_interval_is_that_of_resamples_and_needs_twenty_images():
    content, results = case(images=30, annotations=300)
    lonely = content['categories'][1]['id']
    image = content['images'][0]['id']
    for annotation in content['annotations']:
        if annotation['category_id'] == lonely:
            annotation.update(image_id=image, iscrowd=0, ignore=0)
    matches = match(content, results, iou_type='bbox', protocol='coco')
    strata = stratify(matches, [], image_weights(30, 100))
    alone = next(
        x for x in strata if x.name == content['categories'][1]['name']
    )
    assert alone.ap is not None and alone.ap_low is None
    weights = image_weights(30, 100)
    narrow = stratify(matches, [], weights, confidence=0.5)
    for wide, half in zip(strata[:3], narrow[:3], strict=True):
        drawn = matches.ap_per_class(area=wide.name, image_weights=weights)
        error = np.nanmean(drawn, axis=1).std(ddof=1)
        for one, quantile in ((wide, 1.96), (half, 0.674)):
            for bound in (one.ap_high - one.ap, one.ap - one.ap_low):
                assert bound == pytest.approx(quantile * error, rel=0.2)


def test_training_counts_are_those_of_the_file(tmp_path):
    content, _ = case()
    train, _ = make_case(
        np.random.default_rng(5),
        images=30,
        categories=1,
        annotations=200,
        detections=0,
        levels=1,
    )
    train['categories'] = content['categories']
    ids = [x['id'] for x in content['categories']]
    random = np.random.default_rng(0)
    for annotation in train['annotations']:
        annotation['category_id'] = int(random.choice(ids[1:]))
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(train))
    gt = GroundTruth.from_dict(content)
    for source in (path, train):
        counts = training_counts(source, gt)
        for place, category in enumerate(gt.category_ids.tolist()):
            own = [
                x for x in train['annotations'] if x['category_id'] == category
            ]
            assert counts.images[place] == len({x['image_id'] for x in own})
            assert counts.instances[place] == sum(
                not x['iscrowd'] for x in own
            )
    assert counts.images.min() == 0


def test_training_file_that_does_not_match_is_refused_in_a_line(tmp_path):
    content, _ = case()
    gt = GroundTruth.from_dict(content)
    other = [{**x, 'name': x['name'] + '!'} for x in content['categories']]
    for categories in (other, content['categories'][1:]):
        with pytest.raises(ValueError, match='must have the categories of'):
            training_counts({**content, 'categories': categories}, gt)
    with pytest.raises(FileNotFoundError, match='train_ann_file must be'):
        training_counts(tmp_path / 'absent.json', gt)
    (tmp_path / 'broken.json').write_text('{')
    with pytest.raises(ValueError, match='train_ann_file must be'):
        training_counts(tmp_path / 'broken.json', gt)


def test_frequency_follows_the_training_images_where_the_file_is_silent():
    content, _ = case()
    for category in content['categories']:
        del category['frequency']
    gt = GroundTruth.from_dict(content)
    assert frequency_bins(gt, None) is None
    bins = frequency_bins(gt, stated_counts(gt))
    for count, member in zip(gt.image_counts, bins.members, strict=True):
        assert bins.names[member] == (
            'r' if count <= 10 else 'c' if count <= 100 else 'f'
        )
