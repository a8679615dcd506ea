"""`mmfrozen cache-advice`, as a person types it."""

import json
import re
import sys

import pytest

from mmfrozen_cli import cache_advice
from tests.tiny import ROOT, tiny_config

DEMO = str(ROOT / 'configs/frozen/mask_rcnn_lite0_mini-lvis.py')
R101 = str(ROOT / 'configs/frozen/mask_rcnn_r101_lvis.py')


@pytest.fixture
def tool(monkeypatch, capfd):
    """Call the tool in this process; return status, output and errors."""
    monkeypatch.setattr('logging.disable', lambda level: None)

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['cache-advice', *map(str, args)])
        try:
            status = cache_advice.main()
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def tiny(tmp_path, mini_lvis, resnet18):
    """A config file of a small run whose data are there."""
    cfg = tiny_config(tmp_path, mini_lvis, resnet18)
    path = tmp_path / 'tiny.py'
    cfg.dump(path)
    return path


def test_small_run_is_measured_and_the_answer_is_its_last_line(tool, tiny):
    status, out, err = tool(tiny, '--steps', 2, '--folder', tiny.parent)
    assert status == 0, err
    assert '4 images x 1 views; 4 images per epoch, 2 epochs' in out
    for word in ('a view', 'in the loop', 'read rate needed', 'filling'):
        assert word in out
    assert re.search(r'augmenting a batch, one process │ +[\d.]+ s', out)
    verdict = out.splitlines()[-1]
    assert verdict.partition(':')[0] in ('plain', 'engine', 'cache')
    assert list(tiny.parent.iterdir()) == [tiny]


def test_record_of_r101_on_coco_needs_no_data_and_fits_no_disk(tool):
    status, out, err = tool(
        R101, '--images', 10**9, '--no-measure', '--json', '--views', 2
    )
    assert status == 0, err
    record = json.loads(out)
    assert record['view_bytes'] == 62_914_560
    assert record['total_bytes']['fp16'] == 2 * 10**9 * 62_914_560
    assert record['verdict']['use'] == 'engine'
    assert record['measured'] is None and record['prediction'] is None


@pytest.mark.parametrize(
    'args, message',
    (
        ((R101, '--no-measure'), 'Set --images N.'),
        (('nowhere.py',), "got 'nowhere.py'"),
        ((DEMO, '--steps', 1), 'must be 2 or more, got 1'),
        (
            (DEMO, '--images', 8, '--folder', 'nowhere'),
            '--folder must be an existing folder, got nowhere',
        ),
        (
            (R101.replace('frozen', 'finetuned'), '--images', 8),
            'frozen as a whole, got',
        ),
    ),
)
def test_wrong_use_is_one_line_and_status_2(tool, args, message):
    status, out, err = tool(*args)
    assert status == 2 and out == ''
    assert message in err.splitlines()[-1]
    assert 'Traceback' not in err
