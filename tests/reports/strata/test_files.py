"""Comparing two strata.json where nothing else is left."""

import json

import pytest

from mmfrozen.evaluation.ground_truth import GroundTruth
from mmfrozen.evaluation.match_detections import match
from mmfrozen.evaluation.publish import write_strata
from mmfrozen.evaluation.strata import default_bins, stratify, training_counts
from mmfrozen.reports.strata.comparison import Request, compare
from mmfrozen.reports.strata.tables import error_rows
from mmfrozen.run_files import StrataRecord

from . import strata_data


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = strata_data.write(tmp_path_factory.mktemp('d'), images=False)
    content = json.loads((folder / 'annotations/val.json').read_text())
    gt = GroundTruth.from_dict(content)
    counts = training_counts(folder / 'annotations/train.json', gt)
    for name in ('frozen', 'finetuned'):
        results = json.loads((folder / name / 'r.bbox.json').read_text())
        matches = match(content, results, iou_type='bbox', protocol='coco')
        record = StrataRecord(
            iou_type='bbox',
            protocol='coco',
            num_images=len(gt.image_ids),
            num_evaluated_images=len(gt.image_ids),
            num_detections=len(results),
            counts_from='train.json',
            resamples=0,
            confidence=0.95,
            strata=stratify(matches, default_bins(gt, counts)),
        )
        path = folder / f'{name}_kept/strata.json'
        write_strata(path, 'val', {}, [record], {})
    return folder


def request_for(folder, ending, **changes):
    options = dict(
        run=folder / f'frozen{ending}',
        control=folder / f'finetuned{ending}',
        ann=folder / 'annotations/val.json',
        train_ann=folder / 'annotations/train.json',
        num_resamples=20,
    )
    return Request(**{**options, **changes})


def test_gains_are_those_of_the_results_and_have_no_intervals(data):
    left = compare(request_for(data, '_kept'))
    full = compare(request_for(data, '')).gain
    assert left.detections == {} and left.gain.num_resamples == 0
    assert 'no intervals' in left.gain.notes[0]
    pairs = [
        *zip(left.gain.classes, full.classes, strict=True),
        *zip(left.gain.bins, full.bins, strict=True),
    ]
    for ours, theirs in pairs:
        assert ours.gain.low is None and ours.gain.high is None
        assert ours.gain.value == pytest.approx(theirs.gain.value)
        assert ours.ap.value == pytest.approx(theirs.ap.value)
    for ours, theirs in zip(left.gain.bins, full.bins, strict=True):
        assert (ours.family, ours.label) == (theirs.family, theirs.label)
        assert ours.num_classes == theirs.num_classes
    assert left.gain.running_mean.value == pytest.approx(
        full.running_mean.value, nan_ok=True
    )


def test_single_file_has_its_aps(data):
    gain = compare(request_for(data, '_kept', control=None)).gain
    assert gain.control is None and gain.bins[0].ap.value > 0
    assert gain.bins[0].gain is None


def kept(folder, data, **changes):
    """Write strata.json of both runs with changed fields; return a request."""
    for name in ('frozen', 'finetuned'):
        content = json.loads((data / f'{name}_kept/strata.json').read_text())
        content['records'][0].update(changes.get(name, changes))
        (folder / f'{name}_kept').mkdir()
        path = folder / f'{name}_kept/strata.json'
        path.write_text(json.dumps(content))
    return request_for(
        folder,
        '_kept',
        ann=data / 'annotations/val.json',
        train_ann=data / 'annotations/train.json',
    )


def test_confidence_and_seed_are_those_of_the_files(data, tmp_path):
    gain = compare(kept(tmp_path, data, confidence=0.9, seed=7)).gain
    assert (gain.confidence, gain.seed) == (0.9, 7)


def test_control_without_detections_has_no_error_types(data, tmp_path):
    error = dict(by='all', name='all', type='Cls', gain=0.1, num_errors=3)
    request = kept(
        tmp_path, data, frozen=dict(errors=[error]), finetuned=dict(errors=[])
    )
    gain = compare(request).gain
    assert gain.errors == () == tuple(error_rows(gain))


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        (dict(iou_type='segm'), 'segm'),
        (dict(control='finetuned'), 'Both runs'),
        (dict(protocol='lvis'), 'protocol'),
        (dict(run='annotations/val.json', control=None), 'RLE|result'),
    ],
    ids=['kind of AP', 'results beside it', 'protocol', 'annotations'],
)
def test_what_cannot_be_compared_is_refused(data, changes, named):
    for key in ('run', 'control'):
        if changes.get(key):
            changes[key] = data / changes[key]
    with pytest.raises(ValueError, match=named):
        compare(request_for(data, '_kept', **changes))


def test_file_of_other_categories_is_refused(data, tmp_path):
    path = data / 'frozen_kept/strata.json'
    text = path.read_text().replace('"owl"', '"eagle"')
    (tmp_path / 'strata.json').write_text(text)
    request = request_for(data, '_kept', run=tmp_path, control=None)
    with pytest.raises(ValueError, match="'owl'"):
        compare(request)


def test_file_that_is_something_else_is_refused(data, tmp_path):
    (tmp_path / 'strata.json').write_text('[1, 2]')
    request = request_for(data, '_kept', run=tmp_path, control=None)
    with pytest.raises(ValueError, match=r'strata\.json'):
        compare(request)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(max_dets=300), 'max_dets., got 100 and 300'),
        (dict(seed=1), 'same seed, got 0 and 1'),
        (dict(confidence=0.9), 'same confidence, got 0.95 and 0.9'),
        (
            dict(annotations='0' * 32),
            'must be evaluated against the boxes of --ann',
        ),
    ],
)
def test_records_that_were_measured_otherwise_are_not_compared(
    data, tmp_path, change, words
):
    like = dict(max_dets=100, seed=0, confidence=0.95)
    request = kept(tmp_path, data, frozen=like, finetuned=like | change)
    with pytest.raises(ValueError, match=words):
        compare(request)


def test_bins_of_one_name_with_other_categories_are_not_compared(
    data, tmp_path
):
    """Other training counts put other categories into the bin 4-9."""
    content = json.loads((data / 'finetuned_kept/strata.json').read_text())
    rows = content['records'][0]['strata']
    row = next(x for x in rows if x['by'] == 'training_annotations')
    row['num_categories'] += 1
    (tmp_path / 'strata.json').write_text(json.dumps(content))
    request = request_for(data, '_kept', control=tmp_path)
    with pytest.raises(ValueError, match='same training_annotations'):
        compare(request)
