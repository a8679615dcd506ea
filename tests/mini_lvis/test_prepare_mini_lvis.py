import re
import sys
from pathlib import Path

import cv2
import pytest

from mmfrozen_cli import run_command

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare_mini_lvis.py'
TINY = ['--num-train', '5', '--num-val', '3', '--size', '96', '128']


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr('signal.signal', lambda *_: None)

    def call(*args: object) -> int:
        monkeypatch.setattr(sys, 'argv', [TOOL.name, *map(str, args)])
        return run_command('mini-lvis')

    return call


def test_second_run_says_that_the_set_is_complete(run, tmp_path, capsys):
    assert run('--out', tmp_path / 'set', *TINY) == 0
    assert run('--out', tmp_path / 'set', *TINY) == 0
    output = capsys.readouterr()
    assert 'Already complete' in output.err and not output.out


def test_preview_shows_the_set_and_is_not_overwritten(run, tmp_path):
    args = '--out', tmp_path / 'set', *TINY, '--preview', tmp_path / 'a.png'
    assert run(*args) == 0
    sheet = cv2.imread(str(tmp_path / 'a.png'))
    assert sheet.shape[0] > 2 * 2 * 96 and sheet.shape[1] > 4 * 2 * 128
    assert run(*args) == 2


@pytest.mark.parametrize(
    'args',
    [
        ['--num-train', '0'],
        ['--size', '8', '256'],
        ['--preview', 'sheet.gif'],
        ['--out', 'occupied'],
        ['--out', 'file'],
        ['--out', 'file/set'],
    ],
    ids=' '.join,
)
def test_wrong_use_ends_in_one_line_and_exit_code_2(
    run, tmp_path, capsys, monkeypatch, args
):
    monkeypatch.chdir(tmp_path)
    Path('occupied').mkdir()
    Path('occupied/file').touch()
    Path('file').touch()
    assert run('--out', 'set', *TINY, *args) == 2
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r'error: .+, got .+\. .+\.', lines[-1])
    assert not Path('set').exists()


def test_changed_set_fails_the_check_with_exit_code_1(run, tmp_path, capsys):
    run('--out', tmp_path / 'set', *TINY)
    next((tmp_path / 'set' / 'val2017').iterdir()).unlink()
    assert run('--out', tmp_path / 'set', *TINY, '--force') == 1
    assert 'Traceback' not in capsys.readouterr().err
