"""configs/frozen copied into somebody's MMDetection workspace works there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest

from mmfrozen.mini_lvis.weights import export_lite0

ROOT = Path(__file__).parents[2]
HOST_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'

# Builds each config and prints how many tensors of its backbone train. Runs
# with -I: neither PYTHONPATH nor the working directory is on the path, so
# that mmfrozen is the installed one.
BUILD = """
import json, sys
from pathlib import Path
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmdet.registry import MODELS

checkout, *paths = sys.argv[1:]
assert checkout not in sys.path and not Path.cwd().is_relative_to(checkout)
assert 'mmfrozen' not in sys.modules  # the config's custom_imports does it
for path in paths:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.train()
    trains = sum(
        p.requires_grad
        for name, p in model.backbone.named_parameters()
        if not name.startswith('adapters.')  # which train beside it
    )
    print(json.dumps([path, trains]))
"""


# Each kind of fragment at least once; tests/configs builds them all.
SAMPLE = (
    'cascade_rcnn_rs101_fpn_coco.py',
    'mask_rcnn_lite0_adapters_mini-lvis.py',
    'mask_rcnn_lite0_bifpn_mini-lvis.py',
    'mask_rcnn_lite0_mini-lvis.py',
    'mask_rcnn_r101_lvis.py',
    'mask_rcnn_rs101_12e_own.py',
    'retinanet_r50_fpn_12e_coco.py',
)


@pytest.fixture
def workspace(tmp_path):
    """MMDetection's own tree of configs, and nothing of ours."""
    root = tmp_path / 'workspace'
    shutil.copytree(HOST_CONFIGS, root / 'configs')
    return root


def copy(workspace, *states):
    for state in states:
        target = workspace / 'configs' / state
        # MMDetection has a folder scratch/ of its own; names do not clash
        shutil.copytree(ROOT / 'configs' / state, target, dirs_exist_ok=True)


def run(*args, cwd):
    """Run isolated Python; its standard output, or the end of its errors."""
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(
        [sys.executable, '-I', *map(str, args)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def count_trained(workspace, state):
    """Build some configs of a state; trained tensors of each backbone."""
    folder = workspace / 'configs' / state
    ours = [folder / name for name in SAMPLE]
    output = run('-c', BUILD, ROOT, *ours, cwd=workspace.parent)
    lines = [json.loads(x) for x in output.splitlines() if x.startswith('[')]
    assert {path for path, _ in lines} == set(map(str, ours)) != set()
    return [trained for _, trained in lines]


def test_frozen_folder_alone_builds_frozen_in_a_workspace(workspace):
    copy(workspace, 'frozen')
    assert set(count_trained(workspace, 'frozen')) == {0}


@pytest.mark.parametrize('state', ['finetuned', 'scratch'])
def test_control_builds_trainable_in_a_workspace(workspace, state):
    copy(workspace, 'frozen', state)
    assert min(count_trained(workspace, state)) > 0


def test_mim_trains_the_demo_in_a_workspace(workspace, mini_lvis):
    copy(workspace, 'frozen')
    (workspace / 'data').mkdir()
    (workspace / 'data/mini_lvis').symlink_to(mini_lvis)
    export_lite0(workspace / 'data/weights')
    command = (
        '-m mim train mmdet configs/frozen/mask_rcnn_lite0_mini-lvis.py '
        '--gpus 0 --launcher none --work-dir run --cfg-options '
        'train_cfg.max_iters=2 train_dataloader.batch_size=2'
    )
    run(*command.split(), cwd=workspace)
    record = json.loads((workspace / 'run/backbone.json').read_text())
    assert record['state'] == 'frozen'
    assert record['verified_iter'] == 2
    assert record['backbone']['trainable'] == 0 < record['model']['trainable']
