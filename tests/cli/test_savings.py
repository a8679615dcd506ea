"""`mmfrozen savings`, as a person types it."""

import json
import sys

import pytest

from mmfrozen_cli import savings
from tests.cli.test_commands import run
from tests.reports.runs import work_dirs
from tests.tiny import ROOT

TOOL = 'analyze_savings.py'
DEMO = str(ROOT / 'configs/frozen/mask_rcnn_lite0_mini-lvis.py')


@pytest.fixture
def tool(monkeypatch, capfd):
    """Call the tool in this process; return status, output and errors."""
    module = savings
    monkeypatch.setattr(module.os, 'cpu_count', lambda: 1)
    monkeypatch.setattr('logging.disable', lambda level: None)

    def call(*args):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, args)])
        try:
            status = module.main()
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    call.module = module
    return call


def test_experiment_is_compared_with_its_control_in_a_fresh_process():
    done = run(TOOL, DEMO, '--json')
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record['control']['description'].startswith(
        DEMO.replace('frozen', 'finetuned')
    )
    totals = {q['name']: q for q in record['totals']}
    assert totals['step']['saved'] > 0.05
    assert totals['trainable']['saved'] > 0.2
    assert record['work']['shape'] == [256, 256]


def test_options_change_the_config_and_its_control(tool):
    args = DEMO, '--shape', 64, 64, '--json'
    options = '--cfg-options', 'model.neck.out_channels=64'
    for part in ('rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head'):
        options += (f'model.{part}.in_channels=64',)
    for part in ('bbox', 'mask'):
        options += (f'model.roi_head.{part}_roi_extractor.out_channels=64',)

    def trainable(*args):
        status, out, err = tool(*args)
        assert status == 0, err
        record = json.loads(out)
        for side in 'frozen', 'control':
            has_options = 'in_channels=64' in record[side]['description']
            assert has_options == (options[1] in args)
        totals = {q['name']: q for q in record['totals']}
        return totals['trainable']['frozen'], totals['trainable']['control']

    wide, narrow = trainable(*args), trainable(*args, *options)
    assert narrow[0] < wide[0]
    assert narrow[1] - narrow[0] == wide[1] - wide[0]  # the backbone's


def test_tables_report_and_batches_of_mmdetections_config(tool, tmp_path):
    report = tmp_path / 'report.html'
    status, out, err = tool(
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', 'as-written',
        '--shape', 64, 96, '--batch-size', 1, '--memory', '100MB',
        '--html', report, '--ap', 30, 31, '--macs',
    )  # fmt: skip
    assert status == 0, err
    assert 'Largest batch in 100MB' in out and 'GMACs' in out
    assert '1 x 3 x 64 x 96 (as set)' in out
    assert 'as written' in out
    assert report.read_text().count('<svg') == 4


def test_every_config_of_a_pack_is_a_line(tool, monkeypatch, tmp_path):
    folder = tmp_path / 'frozen'
    folder.mkdir()
    (folder / 'bad.py').write_text('x = 1')
    (folder / 'good.py').write_text(f'_base_ = {DEMO!r}')
    monkeypatch.setattr('mmfrozen.config_path.ROOT', folder.parent)
    status, out, err = tool('--all', '--shape', 64, 64)
    assert status == 1
    assert 'good' in out and '4x64x64' in out
    assert 'error: bad: A config must have a model' in err


@pytest.mark.parametrize(
    'args, message',
    (
        ((), 'give CONFIG, or --all'),
        (('nowhere.py',), "got 'nowhere.py'"),
        ((DEMO, 'nowhere.py'), "got 'nowhere.py'"),
        ((DEMO, '--memory', '24'), '--memory must be a size'),
        ((DEMO, '--html', DEMO), '--html must name a new file'),
        ((DEMO, '--shape', '0', '8'), 'must be 1 or more, got 0'),
        ((DEMO, '--shape', '1.5', '8'), 'invalid'),
        ((DEMO, '--ap', '1', '2'), '--ap needs --html'),
        ((DEMO, '--all'), 'give CONFIG, or --all'),
        (('--all', '--partial'), '--partial take one CONFIG'),
        ((DEMO, '--partial', '--memory', '1GB'), 'needs a whole step'),
        ((DEMO, '--cfg-options', 'model.nck.type=FPN'), "'neck'"),
        (('--all', '--cfg-options', 'a=1'), '--cfg-options takes one'),
        ((str(ROOT), DEMO), 'CONTROL must be a work dir'),
    ),
)
def test_wrong_use_is_one_line_and_status_2(tool, args, message):
    status, out, err = tool(*args)
    assert status == 2 and out == ''
    assert message in err.splitlines()[-1]
    assert 'Traceback' not in err


def test_step_that_cannot_be_traced_is_status_2(tool, tmp_path):
    path = tmp_path / 'x.py'
    path.write_text(
        f'_base_ = {DEMO!r}\nmodel = dict(neck=dict(in_channels=[1, 2, 3]))'
    )
    status, out, err = tool(path, '--shape', 64, 64)
    assert status == 2 and out == ''
    assert err.splitlines()[-1].startswith('error: ')
    assert 'model.neck' in err.splitlines()[-1] or 'neck' in err


def test_two_work_dirs_are_compared_by_what_they_measured(tool, tmp_path):
    for name, cost in (('a', work_dirs.COST), ('b', work_dirs.HALF)):
        work_dirs.write_run(tmp_path / name, [work_dirs.step(1)], costs=[cost])
    status, out, err = tool(tmp_path / 'a', tmp_path / 'b')
    assert status == 0, err
    assert 'time of a step' in out and 'x 2.00' in out
