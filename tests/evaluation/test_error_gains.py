"""Error types beside hotcoco's, and what they mean by LVIS's protocol."""

import hotcoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfrozen.evaluation.error_gains import (
    count_errors,
    error_gains_per_class,
    fix_errors,
    missed_annotations,
)
from mmfrozen.evaluation.error_strata import (
    calibrations,
    confusions,
    error_bins,
    error_gains,
)
from mmfrozen.evaluation.error_types import CLS, TYPES
from mmfrozen.evaluation.ground_truth import GroundTruth
from mmfrozen.evaluation.match_detections import match
from mmfrozen.evaluation.strata import frequency_bins

from .official import make_case


def plain_case(seed, detections=80):
    """Without crowds, ignored objects, and equal scores."""
    content, results = make_case(
        np.random.default_rng(seed),
        images=8,
        categories=4,
        annotations=60,
        detections=detections,
        levels=10**6,
    )
    for annotation in content['annotations']:
        annotation.update(iscrowd=0, ignore=0)
    return content, results


def hotcoco_evaluation(content, results, kind):
    gt = hotcoco.COCO(content)
    other = {'bbox': 'segmentation', 'segm': 'bbox'}[kind]
    found = [{k: v for k, v in x.items() if k != other} for x in results]
    evaluation = hotcoco.COCOeval(gt, gt.load_res(found), kind)
    evaluation.evaluate()
    return evaluation


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
@given(seed=st.integers(0, 10**6), detections=st.sampled_from([5, 40, 300]))
@settings(max_examples=15, deadline=None, database=None)
def test_errors_are_those_of_hotcoco(kind, seed, detections):
    content, results = plain_case(seed, detections)
    theirs = hotcoco_evaluation(content, results, kind).tide_errors()
    matches = match(content, results, iou_type=kind, protocol='coco')
    counts = count_errors(matches)
    assert {k: v.sum() for k, v in counts.items()} == theirs['counts']
    before = matches.ap_per_class(0.5)
    assert np.nanmean(before) == pytest.approx(theirs['ap_base'])
    gains = error_gains_per_class(matches)
    # where all of a class was missed, hotcoco gains nothing
    is_lost = counts['Miss'] == matches.num_instances()
    np.testing.assert_array_equal(
        gains['Miss'][is_lost & ~np.isnan(before)], 1
    )
    gains['Miss'][is_lost & ~np.isnan(before)] = 0
    for name, values in gains.items():
        assert np.nanmean(values) == pytest.approx(theirs['delta_ap'][name])


def test_calibration_is_hotcocos():
    content, results = plain_case(1, 300)
    theirs = hotcoco_evaluation(content, results, 'bbox').calibration(10, 0.5)
    matches = match(content, results, iou_type='bbox', protocol='coco')
    (ours,) = calibrations(matches, error_bins(matches, []))
    assert ours.error == pytest.approx(theirs['ece'])
    assert ours.nums == [x['count'] for x in theirs['bins']]


def small_case():
    """Two images; of class 1 (rare), 2 (frequent), 3 (common)."""
    categories = [
        dict(id=i, name=f'class {i}', frequency=f)
        for i, f in ((1, 'r'), (2, 'f'), (3, 'c'))
    ]
    images = [
        dict(
            id=i,
            width=100,
            height=100,
            neg_category_ids=[2] if i == 1 else [],
            not_exhaustive_category_ids=[],
        )
        for i in (1, 2)
    ]
    boxes = [(1, 1, 0), (1, 1, 50), (2, 2, 0), (2, 3, 50)]
    annotations = [
        dict(
            id=n,
            image_id=image,
            category_id=category,
            bbox=[x, 0, 20, 20],
            area=400,
            iscrowd=0,
        )
        for n, (image, category, x) in enumerate(boxes, 1)
    ]
    return dict(images=images, annotations=annotations, categories=categories)


def detection(image, category, x, score, width=20):
    return dict(
        image_id=image,
        category_id=category,
        bbox=[x, 0, width, 20],
        score=score,
    )


RESULTS = [
    detection(1, 1, 0, 0.9),
    detection(1, 1, 1, 0.8),  # Dupe
    detection(1, 2, 50, 0.7),  # Cls: a rare object called frequent
    detection(1, 1, 60, 0.6),  # Loc, at the same object, worse
    detection(1, 2, 65, 0.5),  # Both
    detection(1, 3, 0, 0.95),  # not judged by LVIS: Cls by COCO
    detection(2, 2, 80, 0.4),  # Bkg
]


@pytest.mark.parametrize(
    ('protocol', 'others'), [('lvis', {}), ('coco', {'Cls': 1})]
)
def test_only_what_is_judged_can_be_an_error(protocol, others):
    matches = match(small_case(), RESULTS, iou_type='bbox', protocol=protocol)
    counts = {k: int(v.sum()) for k, v in count_errors(matches).items()}
    expected = dict(Cls=1, Loc=1, Both=1, Dupe=1, Bkg=1, Miss=2)
    expected['Cls'] += others.get('Cls', 0)
    assert counts == expected


def test_a_mended_class_counts_for_the_class_of_the_object():
    matches = match(small_case(), RESULTS, iou_type='bbox', protocol='lvis')
    mended = fix_errors(matches, CLS)
    own = mended.categories == 0
    assert mended.scores[own].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert (mended.matched[0][own] & 1).tolist() == [1, 0, 1, 0]
    assert 0.7 not in mended.scores[mended.categories == 1]
    # the worse detection of the same object is no second hit
    assert error_gains_per_class(matches)['Loc'][0] == 0
    assert error_gains_per_class(matches)['Cls'][0] > 0


def test_objects_of_which_nothing_is_told_are_missed():
    matches = match(small_case(), RESULTS, iou_type='bbox', protocol='lvis')
    lost = np.flatnonzero(missed_annotations(matches))
    assert sorted(matches.gt_categories[lost].tolist()) == [1, 2]
    gains = error_gains_per_class(matches)['Miss']
    assert gains[1] == gains[2] == 1  # all of these classes was missed


def test_confusions_lead_from_the_object_to_the_detection():
    content = small_case()
    matches = match(content, RESULTS, iou_type='bbox', protocol='lvis')
    bins = frequency_bins(GroundTruth.from_dict(content))
    found = {(x.true, x.predicted): x.num for x in confusions(matches, bins)}
    assert found.pop(('r', 'f')) == 1 and set(found.values()) == {0}


def test_bins_hold_the_errors_of_their_classes():
    content = small_case()
    matches = match(content, RESULTS, iou_type='bbox', protocol='lvis')
    bins = [frequency_bins(GroundTruth.from_dict(content))]
    rows = error_gains(matches, error_bins(matches, bins))
    assert len(rows) == len(TYPES) * 4
    by_name = {(x.name, x.type): x for x in rows}
    assert by_name['r', 'Dupe'].num_errors == 1
    # a rare object called frequent, and the detection beside another
    assert by_name['r', 'Cls'].num_errors == 1
    assert by_name['f', 'Cls'].num_errors == 0
    assert by_name['r', 'Cls'].gain > 0
    assert by_name['all', 'Miss'].gain == pytest.approx(2 / 3)


def test_resamples_of_every_image_once_change_nothing():
    content, results = plain_case(3)
    matches = match(content, results, iou_type='bbox', protocol='coco')
    once = np.ones((2, len(matches.image_ids)), int)
    for name, values in error_gains_per_class(matches).items():
        for row in error_gains_per_class(matches, once)[name]:
            np.testing.assert_allclose(row, values)
