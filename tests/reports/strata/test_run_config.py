"""Labels of a detector that was trained on some of the categories."""

import json

import pytest
from mmengine.config import Config
from mmengine.fileio import dump

from mmfrozen.config_file import ZOO
from mmfrozen.reports.config_text import read_plain_config
from mmfrozen.reports.strata.comparison import Request, compare
from tests.tiny import ROOT

from . import strata_data

#: Of the detector, in the order of the file, which its labels follow.
CLASSES = ('cat', 'owl')
IDS = [3, 8]
CONFIG = """
model = dict(roi_head=dict(bbox_head=[dict(num_classes={number})]))
test_dataloader = dict(dataset=dict(type='RepeatDataset', dataset=dict(
    type='{kind}', metainfo=dict(classes={classes}))))
"""


def config(classes=CLASSES, number=2, kind='CocoDataset'):
    return CONFIG.format(classes=repr(classes), number=number, kind=kind)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A run as json, and the same with labels."""
    folder = strata_data.write(tmp_path_factory.mktemp('d'), images=False)
    gt = json.loads((folder / 'annotations/val.json').read_text())
    results = [
        r for r in strata_data.detect(gt, 0.7) if r['category_id'] in IDS
    ]
    (folder / 'json').mkdir()
    (folder / 'json/r.bbox.json').write_text(json.dumps(results))
    samples = list(strata_data.samples(gt, results, IDS))
    dump(samples, str(folder / 'results.pkl'))
    return folder


@pytest.fixture
def work_dir(data, tmp_path):
    (tmp_path / 'results.pkl').symlink_to(data / 'results.pkl')
    (tmp_path / '20260101_000000/vis_data').mkdir(parents=True)
    return tmp_path


def run(data, path, **options):
    request = Request(
        run=path,
        control=None,
        ann=data / 'annotations/val.json',
        train_ann=data / 'annotations/train.json',
        num_resamples=0,
        **options,
    )
    return compare(request).gain


def aps(gain):
    return [row.ap.value for row in gain.classes]


def test_config_in_the_work_dir_says_what_labels_stand_for(data, work_dir):
    expected = aps(run(data, data / 'json/r.bbox.json'))
    assert sum(value > 0.3 for value in expected if value is not None) == 2
    for place in ('mine.py', '20260101_000000/vis_data/config.py'):
        (work_dir / place).write_text(config())
        gain = run(data, work_dir)
        assert aps(gain) == expected
        assert not any('labels' in note for note in gain.notes)


def test_named_config_counts_for_a_file_and_before_that_of_the_work_dir(
    data, work_dir
):
    expected = aps(run(data, data / 'json/r.bbox.json'))
    named = work_dir / 'named.txt.py'
    named.write_text(config())
    (work_dir / 'other.py').write_text(config(CLASSES[:1], 1))
    assert aps(run(data, data / 'results.pkl', config=named)) == expected
    assert aps(run(data, work_dir, config=named)) == expected


def test_labels_without_a_config_that_end_early_are_noted(data):
    gain = run(data, data / 'results.pkl')
    (note,) = [note for note in gain.notes if note.startswith('labels of')]
    assert 'end at 1, those of --ann at 5' in note and '--config' in note


def test_classes_of_an_lvis_data_set_are_all_of_its_file(data, work_dir):
    text = config(number=6, kind='LVISV1Dataset')
    (work_dir / 'mine.py').write_text(text)
    assert aps(run(data, work_dir)) == aps(run(data, data / 'results.pkl'))


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        (
            [config(number=3)],
            'must be the 2 classes of --ann, got a model of 3',
        ),
        ([config(None, 2)], 'metainfo.classes must be categories'),
        ([config(('cat', 'cow'))], "the first is 'cow'"),
        ([config(), config(('cat', 'dog'))], 'which differ. Name one'),
        (['model = 1\nimport'], 'A config must be one of MMDetection'),
        (['model = {}\nraise RuntimeError("a\\nb")'], 'A config must be one'),
    ],
)
def test_config_that_cannot_fit_is_refused_in_a_line(
    data, work_dir, texts, message
):
    for index, text in enumerate(texts):
        (work_dir / f'{index}.py').write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        run(data, work_dir)
    assert '\n' not in str(error.value)


def test_other_code_in_the_folder_is_not_run(data, work_dir):
    (work_dir / 'setup.py').write_text('raise RuntimeError')
    assert run(data, work_dir).classes


@pytest.mark.parametrize('name', ['mask_rcnn_r101_lvis', 'yolox_x'])
def test_config_that_a_run_leaves_is_read_without_running_it(name):
    path = ROOT / f'configs/frozen/{name}.py'
    if name == 'yolox_x':
        path = ZOO / 'yolox/yolox_x_8xb8-300e_coco.py'
    cfg = Config.fromfile(path)
    assert read_plain_config(cfg.pretty_text) == cfg.to_dict()


def test_config_without_labels_is_refused(data, work_dir):
    (work_dir / 'mine.py').write_text(config())
    with pytest.raises(ValueError, match='--config must come with a results'):
        run(data, data / 'json', config=work_dir / 'mine.py')


def test_config_that_is_not_there_is_refused(data, tmp_path):
    with pytest.raises(FileNotFoundError, match='--config must name'):
        run(data, data / 'results.pkl', config=tmp_path / 'no.py')


def test_labels_of_a_checked_data_set_follow_its_classes(data, work_dir):
    expected = aps(run(data, data / 'json/r.bbox.json'))
    (work_dir / 'mine.py').write_text(
        config(CLASSES[::-1], kind='CheckedCocoDataset')
    )
    (work_dir / 'results.pkl').unlink()
    gt = json.loads((data / 'annotations/val.json').read_text())
    results = json.loads((data / 'json/r.bbox.json').read_text())
    samples = list(strata_data.samples(gt, results, IDS[::-1]))
    dump(samples, str(work_dir / 'results.pkl'))
    assert aps(run(data, work_dir)) == expected


def test_classes_in_another_order_than_mmdetections_labels_are_refused(
    data, work_dir
):
    (work_dir / 'mine.py').write_text(config(CLASSES[::-1]))
    with pytest.raises(ValueError, match='must mean the same'):
        run(data, work_dir)
