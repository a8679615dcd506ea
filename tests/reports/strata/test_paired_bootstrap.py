"""Gains, their paired intervals, bins and the running mean."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmfrozen.evaluation.bootstrap import image_weights, student_interval
from mmfrozen.evaluation.match_detections import match
from mmfrozen.evaluation.strata import Bins, stratify
from mmfrozen.reports.strata.paired_bootstrap import (
    Samples,
    bin_gains,
    resample,
    running_mean,
)

from . import strata_data


@pytest.fixture(scope='module')
def gt():
    return strata_data.validation()


@pytest.fixture(scope='module')
def results(gt):
    return [
        strata_data.detect(gt, share, n) for n, share in ((1, 0.8), (2, 0.5))
    ]


@pytest.fixture(scope='module')
def runs(gt, results):
    return [
        match(gt, found, iou_type='bbox', protocol='coco') for found in results
    ]


def drawn(gt, results, weights):
    """A data set in which images stand as often as they were drawn."""
    images, annotations, found = [], [], []
    for image, times in zip(gt['images'], weights, strict=True):
        for _ in range(times):
            new = len(images)
            images.append({**image, 'id': new})
            for source, into in (
                (gt['annotations'], annotations),
                (results, found),
            ):
                into += [
                    {**x, 'image_id': new}
                    for x in source
                    if x['image_id'] == image['id']
                ]
    annotations = [{**x, 'id': n + 1} for n, x in enumerate(annotations)]
    return {**gt, 'images': images, 'annotations': annotations}, found


def official(gt, results):
    """AP of each class by pycocotools; NaN where there is nothing to find."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = gt
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision'][:, :, :, 0, -1]
    ap = precision.mean(axis=(0, 1))
    return np.where(ap < 0, np.nan, ap)


def test_draws_of_both_runs_are_those_of_the_same_repeated_images(
    gt, results, runs
):
    samples = resample(runs, 3, seed=5)['all']
    weights = image_weights(len(gt['images']), 3, 5)
    for run, found in zip(samples, results, strict=True):
        for draw, row in zip(run.draws, weights, strict=True):
            expected = official(*drawn(gt, found, row))
            np.testing.assert_allclose(draw, expected, atol=1e-9)


def test_intervals_are_those_of_the_evaluation_in_the_run(runs):
    """What strata.json says and what the comparison says are one rule."""
    run = runs[0]
    number = len(run.category_ids)
    half = np.arange(number) % 2
    bins = Bins('frequency', ('a', 'b'), (None,) * 2, (None,) * 2, half)
    weights = image_weights(len(run.image_ids), 30, 4)
    recorded = {(s.by, s.name): s for s in stratify(run, [bins], weights)}
    found = bin_gains(run, resample([run], 30, seed=4), [bins], 0.95)
    assert sum(b.ap.low is not None for b in found) > 1
    for gain in found:
        if gain.family == 'all':
            continue
        stratum = recorded[gain.family, gain.label]
        ours = (gain.ap.value, gain.ap.low, gain.ap.high)
        assert ours == pytest.approx(
            (stratum.ap, stratum.ap_low, stratum.ap_high)
        )


def test_run_against_itself_gains_nothing_in_any_resample(runs):
    for run, control in resample([runs[0], runs[0]], 5).values():
        difference = run - control
        assert not np.nan_to_num(difference.draws).any()
        assert not np.nan_to_num(difference.value).any()


def test_images_that_two_runs_share_do_not_widen_their_difference(
    gt, results, runs
):
    few = [r for n, r in enumerate(results[0]) if n % 8]
    other = match(gt, few, iou_type='bbox', protocol='coco')
    run, control = resample([runs[0], other], 40)['all']
    spreads = [
        np.nanmean(samples.draws, axis=1).std()
        for samples in (run - control, run)
    ]
    assert 0 < spreads[0] < 0.8 * spreads[1]


finite = st.floats(-1, 1, allow_nan=False)
tables = hnp.arrays(
    float, st.tuples(st.integers(2, 30), st.integers(1, 4)), elements=finite
)


@settings(deadline=None)
@given(tables, st.floats(-1, 1))
def test_interval_is_centred_on_the_value_whatever_the_bias(draws, bias):
    value = draws.mean(0)
    low, high = student_interval(value, draws, 0.95)
    moved = student_interval(value, draws + bias, 0.95)
    np.testing.assert_allclose(moved, (low, high), atol=1e-9)
    assert (low <= high).all()
    np.testing.assert_allclose(value - low, high - value, atol=1e-9)


@settings(deadline=None)
@given(
    hnp.arrays(float, 12, elements=finite, unique=False),
    hnp.arrays(np.int64, 12, elements=st.integers(1, 10**5)),
)
def test_running_mean_stays_between_the_extremes(gains, counts):
    curve = running_mean([Samples.of(gains)], counts, 0.95)
    value = np.array(curve.value)
    known = value[np.isfinite(value)]
    assert len(known) > 0
    assert (known >= gains.min() - 1e-9).all()
    assert (known <= gains.max() + 1e-9).all()


def test_running_mean_is_of_the_classes_near_and_empty_where_none_is():
    near = np.array([1, 1, np.exp(-0.5), 0, 0, 0])  # 1778 is DECADES away
    far = np.array([0, 0, 0, 1, 1, 1])
    counts = np.array([1000, 1000, 1778, 10**8, 10**8, 10**8])
    ap = np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.8])
    draws = ap + np.random.default_rng(0).normal(size=(50, 6))
    curve = running_mean([Samples(ap, draws)], counts, 0.95)
    for end, weights in ((0, near), (-1, far)):
        value = np.average(ap, weights=weights)
        spread = np.average(draws, axis=1, weights=weights).std(ddof=1)
        ours = (curve.value[end], curve.low[end], curve.high[end])
        expected = (value, value - 1.96 * spread, value + 1.96 * spread)
        assert ours == pytest.approx(expected, rel=1e-3)
    at = np.array(curve.annotations)
    value = np.array(curve.value)
    assert np.isnan(value[(at > 10**5) & (at < 10**7)]).all()


def test_running_mean_needs_classes_with_annotations():
    counts = np.array([5, 5, 5, 5, 0, 0])
    assert running_mean([Samples.of([0.1] * 6)], counts, 0.95) is None
