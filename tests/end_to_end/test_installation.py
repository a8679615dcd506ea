"""`pip install .` into an empty environment, then the main command."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from tests.tiny import ROOT, resnet18_weights, tiny_config

#: Users that import MMDetection, and never `mmfrozen` themselves.
DETECT = """
import sys
import numpy as np
from mmdet.apis import inference_detector, init_detector

config, checkpoint = sys.argv[1:]
model = init_detector(config, checkpoint, device='cpu')
image = np.zeros((64, 64, 3), dtype=np.uint8)
print(len(inference_detector(model, image).pred_instances.bboxes))
"""


@pytest.fixture(scope='module')
def venv(tmp_path_factory):
    """An environment of its own, into which a copy of the clone went."""
    folder = tmp_path_factory.mktemp('installation')
    source = folder / 'clone'
    subprocess.run(
        ['git', 'clone', '-q', '--depth=1', f'file://{ROOT}', source],
        check=True,
    )
    for name in (
        'setup.cfg',
        'pyproject.toml',
        'mmfrozen_ext.py',
        'README.md',
    ):
        shutil.copy(ROOT / name, source)  # as they are, committed or not
    for name in ('mmfrozen', 'mmfrozen_cli', 'configs', 'build_tools'):
        shutil.copytree(ROOT / name, source / name, dirs_exist_ok=True)
    venv = folder / 'venv'
    subprocess.run([sys.executable, '-m', 'venv', venv], check=True)
    install(venv, f'torch=={torch.__version__.partition("+")[0]}')
    install(venv, f'{source}[lite]')
    install(venv, '--no-deps', 'openmim==0.3.9')
    yield venv
    shutil.rmtree(venv)  # 5 GB


def environment():
    return {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}


def install(venv, *args):
    subprocess.run(
        [venv / 'bin/pip', 'install', '-q', *args],
        env=environment(),
        cwd='/',
        check=True,
    )


def run(venv, *command, cwd):
    """Run a program of the environment; its output as one text."""
    done = subprocess.run(
        [venv / 'bin' / command[0], *map(str, command[1:])],
        env=environment() | {'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
    )
    return done.returncode, done.stdout


def test_main_command_runs_after_pip_install_and_nothing_stays_after_removal(
    venv, mini_lvis, tmp_path
):
    checkpoint = resnet18_weights(tmp_path)
    cfg = tiny_config(tmp_path / 'run', mini_lvis, checkpoint)
    cfg.test_dataloader = cfg.val_dataloader  # read by init_detector
    cfg.test_evaluator, cfg.test_cfg = cfg.val_evaluator, dict()
    cfg.dump(tmp_path / 'tiny.py')
    status, output = run(
        venv, 'mim', 'train', 'mmdet', 'tiny.py', '--gpus', '0', cwd=tmp_path
    )
    assert status == 0, output
    (trained,) = (tmp_path / 'run').glob('*_1.pth')

    (tmp_path / 'detect.py').write_text(DETECT)
    status, output = run(
        venv, 'python', 'detect.py', 'tiny.py', trained, cwd=tmp_path
    )
    assert status == 0, output
    assert output.splitlines()[-1].isdigit()

    status, output = run(venv, 'pip', 'uninstall', '-y', 'mmfrozen', cwd='/')
    assert status == 0, output
    left = [p.name for p in venv.rglob('*mmfrozen*')]
    assert left == []
    status, output = run(venv, 'python', '-c', 'import mmcv.ops', cwd='/')
    assert status == 1 and "No module named 'mmcv._ext'" in output
