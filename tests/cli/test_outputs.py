"""Outputs that cannot be written: one line, and what was there is kept."""

import contextlib
import os
import runpy
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from mmfrozen.atomic_write import WriteError
from mmfrozen.config_file import locate
from mmfrozen.freeze_config import freeze_config
from mmfrozen.reports.page import write_page
from mmfrozen.reports.runs.page import write_pictures
from mmfrozen_cli import browse, check, lite0_weights, main, mini_lvis
from tests.test_atomic_write import files_of
from tests.tiny import ROOT

from .test_browse import CONFIG

BASE = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'


@pytest.fixture
def failing(monkeypatch, capsys):
    """Run a command that must end with status 2 and one line."""

    def run(command, *args, size=None):
        monkeypatch.setattr(sys, 'argv', ['x', *map(str, args)])
        monkeypatch.setattr('signal.signal', lambda *_: None)
        status = command.main()
        out, err = capsys.readouterr()
        [line] = [x for x in err.splitlines() if 'error:' in x]
        assert (status, out) == (2, '') and 'Traceback' not in err
        return line

    return run


def test_sheet_of_browse_outlives_one_that_does_not_fit(
    failing, mini_lvis, tmp_path, monkeypatch
):
    config, sheet = tmp_path / 'mine.py', tmp_path / 'sheet.png'
    config.write_text(CONFIG.format(root=str(mini_lvis)))
    sheet.write_text('of before')
    args = config, '--num', 1, '--out', sheet, '--force'
    draw = browse.draw_sheet

    def draw_on_full_disk(*args):
        stack.enter_context(files_of(2000))
        return draw(*args)

    monkeypatch.setattr(browse, 'draw_sheet', draw_on_full_disk)
    with contextlib.ExitStack() as stack:
        line = failing(browse, *args)
    assert f'{sheet} must be written' in line and 'File too large' in line
    assert sheet.read_text() == 'of before'
    assert sorted(os.listdir(tmp_path)) == ['mine.py', 'sheet.png']


def test_repaired_file_that_does_not_fit_leaves_nothing(failing, tmp_path):
    path, fixed = tmp_path / 'ann.json', tmp_path / 'fixed.json'
    path.write_text('{"images": [], "categories": [], "annotations": []}')
    with files_of(10):
        line = failing(check, path, '--fix', fixed)
    assert f'{fixed} must be written' in line and not fixed.exists()


def test_weights_and_mini_lvis_name_what_they_cannot_write(failing, tmp_path):
    (tmp_path / 'file').touch()
    line = failing(lite0_weights, '--out', tmp_path / 'file/x')
    assert 'must be written, got Not a directory' in line
    with files_of(500):
        line = failing(mini_lvis, '--out', tmp_path / 'set')
    assert 'File too large' in line
    assert os.listdir(tmp_path) == ['file']


def test_report_and_pictures_that_do_not_fit_leave_no_piece(tmp_path):
    with files_of(100):
        with pytest.raises(WriteError, match='page.html must be written'):
            write_page(tmp_path / 'page.html', 'title', ['x' * 500])
        with pytest.raises(WriteError, match='a.png must be written'):
            write_pictures(tmp_path, {'a': Figure()})
    assert os.listdir(tmp_path) == []


def test_frozen_config_is_put_back_where_its_control_cannot_be(tmp_path):
    out, control = tmp_path / 'x.py', tmp_path / 'x_finetuned.py'
    out.write_text('of before')
    control.mkdir()
    with pytest.raises(WriteError, match='finetuned.py must be written'):
        freeze_config(locate(BASE), out)
    assert out.read_text() == 'of before' and control.is_dir()


@pytest.mark.skipif(sys.platform != 'linux', reason='has no /dev/full')
@pytest.mark.parametrize('as_tool', (False, True))
def test_tables_that_nobody_can_take_end_in_one_line(
    as_tool, tmp_path, monkeypatch, capsys
):
    path = tmp_path / 'ann.json'
    path.write_text('{"images": [], "categories": [], "annotations": []}')
    command = ('tool',) if as_tool else ('mmfrozen', 'check')
    monkeypatch.setattr(sys, 'argv', [*command, str(path)])
    tool = ROOT / 'tools/check_dataset.py'
    with open('/dev/full', 'w') as full, monkeypatch.context() as patch:
        patch.setattr(sys, 'stdout', full)
        if as_tool:
            with pytest.raises(SystemExit, match='2'):
                runpy.run_path(str(tool), run_name='__main__')
        else:
            assert main() == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and 'No space left on device' in err


@pytest.mark.skipif(sys.platform != 'linux', reason='has no /dev/full')
@pytest.mark.parametrize('option', ('--help', '--version'))
def test_help_that_nobody_can_take_ends_in_one_line(option):
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            [sys.executable, '-m', 'mmfrozen_cli', option],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and 'No space left' in done.stderr
