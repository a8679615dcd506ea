"""Every tool as a person types it."""

import subprocess
import sys

import pytest

from tests.tiny import ROOT

TOOLS = sorted((ROOT / 'tools').glob('*.py'))


def run(tool, *args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / tool, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('tool', TOOLS, ids=lambda p: p.stem)
def test_help_ends_with_two_examples(tool):
    done = run(tool.name, '--help')
    assert done.returncode == 0
    examples = done.stdout.partition('examples:')[2]
    assert examples.count(f'python tools/{tool.name}') == 2


def test_pair_without_its_control_is_refused(tmp_path):
    lonely = tmp_path / 'frozen/mine.py'
    lonely.parent.mkdir()
    lonely.touch()
    done = run('train_pair.py', str(lonely))
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.count('\n') == 1
    assert 'finetuned/mine.py' in done.stderr


def test_exported_weights_are_timms_and_are_not_written_twice(tmp_path):
    first = run('export_lite0_weights.py', '--out', str(tmp_path))
    path = first.stdout.strip()
    before = (tmp_path / path).stat().st_mtime_ns
    assert (
        run('export_lite0_weights.py', '--out', str(tmp_path)).stdout.strip()
        == path
    )
    assert (tmp_path / path).stat().st_mtime_ns == before
