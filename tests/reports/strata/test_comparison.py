"""From files to a comparison, through the tool as it is called."""

import json
import os
import runpy
import sys

import numpy as np
import pytest
from mmengine.fileio import dump

from mmfrozen.evaluation.bootstrap import MIN_IMAGES
from mmfrozen.evaluation.match_detections import match
from mmfrozen.reports.strata.comparison import Request, compare
from mmfrozen.reports.strata.inputs import find_results, short_names
from tests.tiny import ROOT

from . import strata_data

VAL, TRAIN = 'annotations/val.json', 'annotations/train.json'
FROZEN, TUNED = 'frozen/r.bbox.json', 'finetuned/r.bbox.json'
OPTIONS = ['--ann', VAL, '--train-ann', TRAIN, '--resamples', '20']


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    return strata_data.write(tmp_path_factory.mktemp('strata'))


@pytest.fixture
def data(tmp_path):
    return strata_data.write(tmp_path / 'data', images=False)


@pytest.fixture
def tool(monkeypatch, capsys):
    """Runs the tool in this process: status, standard output, errors."""

    def call(folder, *args):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(
            sys, 'argv', ['analyze_strata.py', *map(str, args)]
        )
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(
                str(ROOT / 'tools/analyze_strata.py'), run_name='__main__'
            )
        return exit_.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope='module')
def gain(shared):
    request = Request(
        shared / FROZEN,
        shared / TUNED,
        shared / VAL,
        shared / TRAIN,
        num_resamples=40,
    )
    return compare(request).gain


def by_name(gain):
    return {row.name: row for row in gain.classes}


def test_rare_class_gains_and_frequent_class_loses(gain):
    rows = by_name(gain)
    assert rows['<b>elk</b>'].gain.low > 0 > rows['cat'].gain.high
    rare, common, frequent = gain.family('frequency')
    assert rare.gain.value > 0 > frequent.gain.value
    assert [row.num_classes for row in (rare, common, frequent)] == [2, 1, 2]


def test_counts_are_those_of_the_training_file(gain):
    counts = {row.category_id: row.train_annotations for row in gain.classes}
    assert counts == strata_data.TRAIN


def test_difference_is_that_of_the_aps(gain):
    for row in (*gain.classes, *gain.bins):
        if row.gain.value is not None:
            assert row.gain.value == pytest.approx(
                row.ap.value - row.control.value
            )
            assert row.gain.low is None or (
                row.gain.low <= row.gain.value <= row.gain.high
            )


def test_absent_class_is_counted_and_not_averaged(gain):
    (whole,) = gain.family('all')
    absent = by_name(gain)['ox']
    assert absent.ap.value is absent.gain.value is absent.gain.low is None
    assert (whole.num_classes, whole.num_absent) == (5, 1)
    present = [r.gain.value for r in gain.classes if r.gain.value is not None]
    assert whole.gain.value == pytest.approx(np.mean(present))


@pytest.mark.parametrize(
    'family', ['frequency', 'training_annotations', 'training_images']
)
def test_bins_of_a_family_make_up_the_whole(gain, family):
    (whole,) = gain.family('all')
    rows = list(gain.family(family))
    for field in ('num_classes', 'num_absent', 'num_instances'):
        total = sum(getattr(row, field) for row in rows)
        assert total == getattr(whole, field)
    mean = sum(r.num_classes * (r.gain.value or 0) for r in rows)
    assert mean / whole.num_classes == pytest.approx(whole.gain.value)


def test_class_in_few_images_has_no_interval_and_no_rank(gain):
    row = by_name(gain)['a/b']
    assert 0 < row.val_images < MIN_IMAGES
    assert row.gain.value is not None and row.gain.low is None
    gained, lost = gain.most()
    assert row not in gained + lost
    assert gained[0].name == '<b>elk</b>' and lost[0].name == 'cat'


def test_json_is_the_record_and_tables_stay_within_80_columns(
    tool, shared, monkeypatch
):
    code, out, _ = tool(shared, FROZEN, TUNED, *OPTIONS, '--json')
    record = json.loads(out)
    assert code == 0 and record['control'].startswith('finetuned')
    assert record['num_resamples'] == 20 and record['protocol'] == 'coco'
    monkeypatch.setenv('COLUMNS', '80')
    code, out, _ = tool(shared, FROZEN, TUNED, *OPTIONS)
    assert code == 0 and '<b>elk</b>' in out
    table = out.partition('Mean difference')[0]
    assert max(map(len, table.splitlines())) <= 80


def test_single_run_has_its_aps_and_no_difference(tool, shared):
    code, out, _ = tool(shared, FROZEN, *OPTIONS, '--json')
    record = json.loads(out)
    assert code == 0 and record['control'] is None
    assert record['bins'][0]['gain'] is None
    assert record['bins'][0]['ap']['low'] < record['bins'][0]['ap']['value']


def test_pickle_as_mmdet_dumps_it_gives_the_numbers_of_the_json(tool, shared):
    gt = json.loads((shared / VAL).read_text())
    results = json.loads((shared / FROZEN).read_text())
    samples = strata_data.samples(gt, results, list(strata_data.NAMES))
    dump(list(samples), str(shared / 'dumped.pkl'))
    outputs = [
        json.loads(tool(shared, name, *OPTIONS, '--json')[1])['bins']
        for name in ('dumped.pkl', FROZEN)
    ]
    assert outputs[0] == outputs[1]


def test_work_dir_gives_its_newest_results(tmp_path):
    for age, name in enumerate(['a/results.pkl', 'b/c/x.bbox.json']):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / 'x.segm.json').touch()
    (tmp_path / 'strata.json').touch()
    assert find_results(tmp_path, 'bbox').name == 'results.pkl'
    os.utime(path, (2000, 2000))
    assert find_results(tmp_path, 'bbox') == path


def test_kept_matches_stand_in_for_results(tool, shared, gain):
    gt = json.loads((shared / VAL).read_text())
    for name in ('frozen', 'finetuned'):
        results = json.loads((shared / name / 'r.bbox.json').read_text())
        folder = shared / f'kept_{name}'
        folder.mkdir()
        match(gt, results, iou_type='bbox', protocol='coco').save(
            folder / 'matches.bbox.npz'
        )
    options = [*OPTIONS[:-1], 40]
    code, out, _ = tool(
        shared, 'kept_frozen', 'kept_finetuned', *options, '--json'
    )
    record = json.loads(out)
    assert code == 0
    assert record['bins'][0]['gain']['low'] == gain.bins[0].gain.low


def test_status_is_1_below_the_interval_of_the_control(tool, shared):
    args = (shared, FROZEN, TUNED, *OPTIONS)
    code, out, err = tool(*args, '--fail-below', 'APr')
    assert code == 0 and 'failed' not in err
    code, out, err = tool(*args, '--fail-below', 'APr', '--fail-below', 'APf')
    assert code == 1 and err.count('failed: APf of frozen') == 1
    assert 'rare' in out  # the tables are printed all the same
    code, _, err = tool(shared, 'none.json', *OPTIONS, '--fail-below', 'AP')
    assert code == 2 and '--fail-below needs' in err, 'before it is read'


def test_kept_matches_of_boxes_that_changed_are_refused(tool, shared):
    gt = json.loads((shared / VAL).read_text())
    results = json.loads((shared / 'frozen/r.bbox.json').read_text())
    gt['annotations'][0]['bbox'][2] += 1
    folder = shared / 'kept_other'
    folder.mkdir()
    match(gt, results, iou_type='bbox', protocol='coco').save(
        folder / 'matches.bbox.npz'
    )
    code, _, err = tool(shared, 'kept_other', *OPTIONS)
    assert code == 2 and 'must be evaluated against the boxes of --ann' in err


@pytest.mark.parametrize(
    'paths, names',
    [
        (['w/x.pkl'], ['x']),
        (['w/a/r.pkl', 'w/b/r.pkl'], ['a/r', 'b/r']),
        (['a/n/r.pkl', 'b/n/r.pkl'], ['a/n/r', 'b/n/r']),
        (['w/frozen', 'w/tuned'], ['frozen', 'tuned']),
        (['w/r.v1.pkl', 'w/r.v2.pkl'], ['r.v1', 'r.v2']),
        (['w/a.bbox.json', 'w/b.bbox.json'], ['a', 'b']),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(tmp_path, paths, names):
    assert short_names([tmp_path / path for path in paths]) == names


def change(path, edit):
    content = json.loads(path.read_text())
    content = edit(content) or content
    path.write_text(json.dumps(content))


def rename(content):
    content['categories'][1]['name'] = 'wolf'


def drop_counts(content):
    content['annotations'] = []


def other_image(content):
    content[0]['image_id'] = 12345


def other_category(content):
    content[0]['category_id'] = 12345


def not_a_score(content):
    content[0]['score'] = float('nan')


def annotations_instead(content):
    return strata_data.validation()


BROKEN = {
    'categories of the training file': (TRAIN, rename, "'wolf'"),
    'no instance to find': (VAL, drop_counts, '--ann'),
    'results of another image': (FROZEN, other_image, '12345'),
    'results of another category': (FROZEN, other_category, '12345'),
    'scores that are not numbers': (FROZEN, not_a_score, 'finite'),
    'empty results': (FROZEN, lambda content: content.clear(), 'none'),
    'annotations for results': (FROZEN, annotations_instead, FROZEN),
}


@pytest.mark.parametrize(
    ('file', 'edit', 'named'), BROKEN.values(), ids=BROKEN
)
def test_broken_input_is_refused_in_one_line(tool, data, file, edit, named):
    change(data / file, edit)
    code, out, err = tool(data, FROZEN, TUNED, *OPTIONS, '--html', 'new.html')
    assert (code, out) == (2, '')
    assert err.strip().startswith('error: ') and named in err
    assert err.strip().count('\n') == 0
    assert not (data / 'new.html').exists()


WRONG = {
    'no such run': (['gone.pkl', '--ann', VAL], 'gone.pkl'),
    'a work dir without results': (['annotations/none', '--ann', VAL], 'none'),
    'no such annotations': ([FROZEN, '--ann', 'no.json'], '--ann'),
    'a folder for annotations': ([FROZEN, '--ann', 'frozen'], '--ann'),
    'no training counts': ([FROZEN, '--ann', VAL], '--train-ann'),
    'a page that is there': ([FROZEN, *OPTIONS, '--html', VAL], '--html'),
    'a folder that is full': ([FROZEN, *OPTIONS, '--png', 'frozen'], '--png'),
    'negative resamples': ([FROZEN, *OPTIONS, '--resamples', -1], '-1'),
    'other images': ([FROZEN, *OPTIONS, '--images', 'frozen'], '--images'),
    'masks of boxes': ([FROZEN, *OPTIONS, '--iou-type', 'segm'], 'segm'),
}


@pytest.mark.parametrize(('args', 'named'), WRONG.values(), ids=WRONG)
def test_wrong_use_is_refused_in_one_line(tool, data, args, named):
    (data / 'annotations/none').mkdir()
    before = sorted(data.rglob('*'))
    code, out, err = tool(data, *args)
    assert (code, out) == (2, '')
    assert err.strip().startswith('error: ') and named in err
    assert err.strip().count('\n') == 0
    assert sorted(data.rglob('*')) == before


def test_run_that_saw_few_images_is_noted(tool, data):
    change(data / FROZEN, lambda c: [r for r in c if r['image_id'] < 10])
    code, _, err = tool(data, FROZEN, TUNED, *OPTIONS, '--json')
    assert code == 0 and 'no detection in 5' in err


def test_run_that_knows_few_classes_is_noted(tool, data):
    change(data / FROZEN, lambda c: [r for r in c if r['category_id'] < 8])
    code, _, err = tool(data, FROZEN, TUNED, *OPTIONS, '--json')
    assert code == 0 and 'no detection of 3 of 5 classes' in err
