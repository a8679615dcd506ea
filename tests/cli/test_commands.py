"""Every command as a person types it."""

import os
import re
import signal
import subprocess
import sys

import pytest

from mmfrozen_cli import COMMANDS
from tests.tiny import ROOT

TOOLS = {
    'advise_cache': 'cache-advice',
    'analyze_savings': 'savings',
    'analyze_strata': 'strata',
    'browse_augmentation': 'browse',
    'check_dataset': 'check',
    'compare_runs': 'compare',
    'describe_model': 'describe',
    'export_lite0_weights': 'lite0-weights',
    'feature_cache': 'cache',
    'freeze_config': 'freeze',
    'list_experiments': 'experiments',
    'prepare_mini_lvis': 'mini-lvis',
    'reproduce': 'reproduce',
    'train_pair': 'pair',
    'verify_frozen': 'verify',
}


def run(tool, *args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / tool, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def command(*args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, '-m', 'mmfrozen_cli', *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )


def test_help_names_every_command_and_fits_a_screen():
    done = command('--help')
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) < 80
    shown = {line.split()[0] for line in lines if line.startswith('  ')}
    assert shown == set(COMMANDS)


def test_help_does_not_wait_for_mmdetection():
    code = (
        'import sys, mmfrozen_cli\n'
        "sys.argv[1:] = ['--help']\n"
        'mmfrozen_cli.main()\n'
        "assert not {'torch', 'mmdet', 'mmfrozen'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_unknown_command_is_answered_with_those_there_are():
    done = command('savins')
    assert (done.returncode, done.stdout) == (2, '')
    assert "got 'savins'" in done.stderr and 'savings' in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('name', COMMANDS)
def test_help_of_a_command_ends_with_two_examples(name):
    done = command(name, '--help')
    assert done.returncode == 0, done.stderr
    assert f'usage: mmfrozen {name}' in done.stdout
    examples = done.stdout.partition('examples:')[2]
    assert examples.count(f'  mmfrozen {name}') == 2


def test_every_command_is_a_tool():
    called = {
        path.stem: re.findall(r"run_command\('(.+)'\)", path.read_text())
        for path in (ROOT / 'tools').glob('*.py')
    }
    assert called == {tool: [name] for tool, name in TOOLS.items()}
    assert set(TOOLS.values()) == set(COMMANDS)


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


def test_cause_inside_a_module_of_the_user_is_printed_whole(tmp_path):
    (tmp_path / 'users_module.py').write_text('import no_such_package\n')
    (tmp_path / 'config.py').write_text(
        "custom_imports = dict(imports=['users_module'],\n"
        '    allow_failed_imports=False)\n'
        "model = dict(type='RetinaNet')\n"
    )
    done = subprocess.run(
        [sys.executable, '-m', 'mmfrozen_cli', 'savings', 'config.py'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': f'{ROOT}:{tmp_path}'},
    )
    assert done.returncode == 2
    assert 'Failed to import users_module' in done.stderr
    assert "No module named 'no_such_package'" in done.stderr
    assert 'Traceback' not in done.stderr


def test_pair_that_is_interrupted_before_it_trains_says_so(tmp_path):
    for state in ('frozen', 'finetuned'):
        (tmp_path / state).mkdir()
        (tmp_path / state / 'slow.py').write_text(
            'import time\nprint("ready", flush=True)\ntime.sleep(60)\n'
        )
    process = subprocess.Popen(
        [sys.executable, '-m', 'mmfrozen_cli', 'pair', 'frozen/slow.py'],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err == 'stopped: Interrupted before it was done.\n'
