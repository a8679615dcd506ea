"""The pack's main command, by the real mim, on the embedded data."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torchvision
from mmengine.runner import CheckpointLoader

from mmfrozen.reports.runs.work_dir import read_run
from tests.tiny import ROOT

CONFIG = ROOT / 'configs/frozen/mask_rcnn_r101_lvis.py'
SIDE = '(128,128)'
DATASET = 'train_dataloader.dataset.dataset'
#: Weights, size and length: nothing else is changed.
OPTIONS = [
    'model.backbone.init_cfg.checkpoint=resnet101.pth',
    f'{DATASET}.pipeline.2.scale={SIDE}',
    f'{DATASET}.pipeline.3.crop_size={SIDE}',
    f'{DATASET}.pipeline.6.size={SIDE}',
    f'val_dataloader.dataset.pipeline.1.scale={SIDE}',
    'train_dataloader.batch_size=2',
    f'{DATASET}.indices=4',
    'val_dataloader.dataset.indices=2',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
]


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with data and weights, far from the repository."""
    folder = tmp_path_factory.mktemp('workspace')
    subprocess.run(
        [
            sys.executable,
            ROOT / 'tools/prepare_mini_lvis.py',
            '--out',
            'data/lvis_v1',
            '--num-train',
            '12',
            '--num-val',
            '4',
        ],
        cwd=folder,
        check=True,
    )
    torch.manual_seed(0)
    torch.save(
        torchvision.models.resnet101(weights=None).state_dict(),
        folder / 'resnet101.pth',
    )
    return folder


def command(*more):
    return [
        sys.executable,
        '-m',
        'mim',
        'train',
        'mmdet',
        str(CONFIG),
        '--gpus',
        '0',
        '--work-dir',
        'run',
        '--auto-scale-lr',  # 0.16 is for a batch of 64
        *more,
        '--cfg-options',
        *OPTIONS,
    ]


def test_main_command_trains_is_killed_resumes_and_evaluates(workspace):
    run = workspace / 'run'
    process = subprocess.Popen(
        command(), cwd=workspace, start_new_session=True
    )
    deadline = time.monotonic() + 400
    while not (run / 'last_checkpoint').is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)  # far less than the two steps of epoch 2
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (run / 'epoch_1.pth').is_file()
    assert not (run / 'epoch_2.pth').is_file()

    subprocess.run(command('--resume'), cwd=workspace, check=True)
    checkpoint = CheckpointLoader.load_checkpoint(
        str(run / 'epoch_2.pth'), 'cpu'
    )
    assert checkpoint['meta']['iter'] == 4
    weights = torch.load(workspace / 'resnet101.pth')
    names = [k for k in checkpoint['state_dict'] if 'backbone.' in k]
    assert len(names) == len(weights) - 2  # without the last layer
    for name in names:
        assert torch.equal(
            checkpoint['state_dict'][name],
            weights[name.removeprefix('backbone.')],
        ), name

    record = read_run(run)
    assert record.step == 2 and record.backbone.verified_iter == 4
    assert set(record.metrics) >= {
        f'lvis/{kind}_{ap}'
        for kind in ('bbox', 'segm')
        for ap in ('AP', 'APr', 'APc', 'APf')
    }
    logs = sorted(run.glob('*/vis_data/scalars.json'))
    assert len(logs) == 2, 'one for each start'
    steps = [
        json.loads(line)['epoch']
        for line in logs[1].read_text().splitlines()
        if 'loss' in line
    ]
    assert set(steps) <= {2}, 'the first epoch was not run again'


def test_missing_data_set_ends_in_one_line_before_training(
    workspace, tmp_path
):
    done = subprocess.run(
        command(), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    line = next(x for x in done.stderr.splitlines() if 'must be an' in x)
    assert 'lvis_v1_train.json' in line and 'mmfrozen mini-lvis' in line
    assert not list(tmp_path.rglob('*.pth'))
