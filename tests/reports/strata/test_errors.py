"""Why one run is better than another, with intervals and without."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mmfrozen.evaluation.error_types import TYPES
from mmfrozen.evaluation.match_detections import match
from mmfrozen.evaluation.strata import training_counts
from mmfrozen.reports.strata.comparison import Request, compare
from mmfrozen.reports.strata.error_charts import draw_calibration, draw_errors
from mmfrozen.reports.strata.gate import failures
from mmfrozen.reports.strata.page import write_strata_page
from mmfrozen.reports.strata.tables import error_rows
from mmfrozen.run_files import STRATA

from . import strata_data


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return strata_data.write(tmp_path_factory.mktemp('d'), images=False)


def request_for(folder, run='frozen', control='finetuned', **changes):
    return Request(
        run=folder / run,
        control=folder / control if control else None,
        ann=folder / 'annotations/val.json',
        train_ann=folder / 'annotations/train.json',
        num_resamples=20,
        **changes,
    )


@pytest.fixture(scope='module')
def gain(data):
    return compare(request_for(data)).gain


def costs(gain, label='all'):
    return {x.type: x for x in gain.errors if x.bin.label == label}


def test_costs_of_each_run_and_their_difference_have_intervals(gain):
    for row in costs(gain).values():
        gap = row.bin.ap.value - row.bin.control.value
        assert row.bin.gain.value == pytest.approx(gap)
        assert row.bin.gain.low <= row.bin.gain.value <= row.bin.gain.high
    assert {row.bin.family for row in gain.errors} == {
        'all',
        'frequency',
        'training_annotations',
    }


def test_a_run_beside_itself_differs_in_nothing(data):
    twin = compare(request_for(data, control='./frozen/r.bbox.json')).gain
    for row in twin.errors:
        assert row.num_errors == row.num_control_errors
        assert row.bin.gain.value in (None, 0)
        assert row.bin.gain.low in (None, 0)


def test_a_type_explains_what_was_done_to_a_run(data, tmp_path, gain):
    """The control, with every second object forgotten: more is missed."""
    results = json.loads((data / 'frozen/r.bbox.json').read_text())
    (tmp_path / 'r.bbox.json').write_text(json.dumps(results[::2]))
    worse = compare(
        replace(request_for(data), run=tmp_path, control=data / 'frozen')
    ).gain
    missed = costs(worse)['Miss']
    assert missed.num_errors > missed.num_control_errors
    assert missed.bin.gain.low > 0
    biggest = max(costs(worse).values(), key=lambda x: x.bin.gain.value)
    assert biggest is missed


def test_single_run_has_costs_and_no_control(data):
    alone = compare(request_for(data, control=None)).gain
    assert all(x.bin.control is None for x in alone.errors)
    assert len(alone.calibration) == len(alone.confusions) == 1
    assert error_rows(alone) and draw_errors(alone).axes


def test_kept_matches_of_an_earlier_release_lack_errors_and_say_so(
    data, tmp_path
):
    content = json.loads((data / 'annotations/val.json').read_text())
    results = json.loads((data / 'frozen/r.bbox.json').read_text())
    matches = match(content, results, iou_type='bbox', protocol='coco')
    matches = replace(matches, errors=None, targets=None)
    matches.save(tmp_path / 'matches.bbox.npz')
    gain = compare(replace(request_for(data), run=tmp_path)).gain
    assert gain.errors == () and 'No error types' in gain.notes[-1]


def test_records_of_metrics_give_the_same_costs_without_intervals(
    data, tmp_path, gain
):
    from mmfrozen.evaluation import StratifiedCocoMetric
    from mmfrozen.evaluation.detections import DetectionArrays
    from mmfrozen.evaluation.publish import write_strata

    metric = StratifiedCocoMetric(
        str(data / 'annotations/val.json'),
        train_ann_file=str(data / 'annotations/train.json'),
        resamples=0,
        strata_file=False,
    )
    assert training_counts(data / 'annotations/train.json', metric.gt)
    for name in ('frozen', 'finetuned'):
        results = json.loads((data / name / 'r.bbox.json').read_text())
        found = DetectionArrays.from_dicts(results)
        matcher = metric._matchers['bbox']
        matches = matcher.join([matcher.match_batch(found)])
        record = metric._stratify(matches.limited(100))
        path = tmp_path / name / 'strata.json'
        write_strata(path, 'val', {}, [record], {})
        assert STRATA.read(path).records == [record]
    kept = compare(
        replace(
            request_for(data),
            run=tmp_path / 'frozen',
            control=tmp_path / 'finetuned',
        )
    ).gain
    for ours, theirs in zip(
        sorted(kept.errors, key=key), sorted(gain.errors, key=key), strict=True
    ):
        assert ours.num_errors == theirs.num_errors
        for name in ('ap', 'control', 'gain'):
            one, other = getattr(ours.bin, name), getattr(theirs.bin, name)
            assert one.value == pytest.approx(other.value) and one.low is None
    assert kept.calibration == gain.calibration
    assert kept.confusions == gain.confusions


def key(row):
    return row.bin.family, row.bin.label, row.type


def test_page_shows_costs_after_the_curve(gain, tmp_path):
    write_strata_page(tmp_path / 'x.html', gain, {})
    text = (tmp_path / 'x.html').read_text()
    heads = [
        'By training annotations',
        'Types of error',
        'Scores and precision',
        'By bin',
    ]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    for name in TYPES:  # panels share the axis that names them
        assert f'>{name}</text>' in text
    panels = [x for x in draw_errors(gain).axes if x.get_title(loc='left')]
    assert len(panels) == 4
    widths = [bar.get_width() for bar in panels[0].patches]
    shown = [100 * row.bin.ap.value for row in costs(gain).values()]
    np.testing.assert_allclose(widths[: len(shown)], shown)
    assert len(draw_calibration(gain).axes) == 4


@pytest.mark.parametrize(
    ('names', 'lines'), [(['APf'], 1), (['APr'], 0), (['AP', 'APf'], 1)]
)
def test_gate_names_what_lies_below_the_interval_of_the_control(
    gain, names, lines
):
    found = failures(gain, names)
    assert len(found) == lines
    assert all('below the 95% interval of finetuned' in x for x in found)


def test_gate_without_a_control_or_interval_is_refused(data):
    alone = compare(request_for(data, control=None)).gain
    with pytest.raises(ValueError, match='--fail-below needs .* for APr'):
        failures(alone, ['APr'])
    bare = compare(replace(request_for(data), num_resamples=0)).gain
    with pytest.raises(ValueError, match='--fail-below needs'):
        failures(bare, ['AP'])
