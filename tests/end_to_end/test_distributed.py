"""Two processes on a CPU, launched as a user does: `mim train`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS

from tests.tiny import ROOT, tiny_config

MIM = Path(sys.executable).with_name('mim')
BACKBONES = {
    'ResNet': None,  # that of the experiment
    'Swin': dict(
        type='SwinTransformer',
        embed_dims=16,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        window_size=4,
        drop_path_rate=0.5,
    ),
    'EfficientNet': dict(
        type='EfficientNet',
        arch='b0',
        drop_path_rate=0.5,
        out_indices=(3, 4, 5),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
}
NECKS = {
    'Swin': dict(in_channels=[16, 32, 64, 128]),
    'EfficientNet': dict(in_channels=[40, 112, 320], start_level=0),
}


@pytest.fixture
def config(tmp_path, mini_lvis, resnet18):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    cfg.custom_imports.imports.append('tests.end_to_end.probe')
    cfg.custom_hooks.append(dict(type='ProbeHook'))
    cfg.find_unused_parameters = False
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    return cfg


def set_backbone(cfg, name, folder):
    """Exchange the backbone; its classifier has random weights."""
    torch.manual_seed(3)
    inner = BACKBONES[name]
    state = MODELS.build(inner).state_dict()
    path = folder / f'{name}.pth'
    torch.save({'state_dict': {f'backbone.{k}': state[k] for k in state}}, path)
    init_cfg = dict(
        type='Pretrained', checkpoint=str(path), prefix='backbone.'
    )
    cfg.model.backbone = dict(
        type='FrozenBackbone', backbone=dict(inner, init_cfg=init_cfg)
    )
    cfg.model.neck.update(NECKS[name])


def launch(cfg, folder):
    """Train by `mim` in two processes."""
    path = folder / 'config.py'
    cfg.dump(path)
    return subprocess.run(
        [MIM, 'train', 'mmdet', path, '--launcher', 'pytorch', '--gpus', '2'],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )


def read_ranks(cfg):
    paths = sorted(Path(cfg.work_dir).glob('rank_*.json'))
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize('backbone', BACKBONES)
def test_two_processes_train_all_but_the_frozen_backbone(
    backbone, config, tmp_path
):
    if BACKBONES[backbone]:
        set_backbone(config, backbone, tmp_path)
    else:
        config.train_cfg.val_interval = 2  # validation runs too
        config.model.test_cfg.rcnn.score_thr = 0.0  # and finds something
    run = launch(config, tmp_path)
    assert run.returncode == 0, run.stdout[-4000:]
    ranks = read_ranks(config)
    assert len(ranks) == 2
    for seen in ranks:
        assert not seen['find_unused_parameters']
        for held in ('in_buckets', 'in_optimizer'):
            assert seen[held], 'the rest trains'
            assert not [n for n in seen[held] if n.startswith('backbone.')]
        assert sorted(seen['in_buckets']) == sorted(seen['in_optimizer'])
        own = [n for n in seen['before'] if n.startswith('backbone.')]
        assert own and all(
            seen['before'][n] == seen['after'][n] for n in own
        )
    first, second = (seen['after'] for seen in ranks)
    trained = ranks[0]['in_buckets']
    assert all(first[n] == second[n] for n in trained + own)
    assert any(first[n] != ranks[0]['before'][n] for n in trained)
    assert run.stdout.count('SyncBN needs GPUs') == 1
    assert ranks[0]['norms'] == ['_BatchNormXd']
    if not BACKBONES[backbone]:
        logs = Path(config.work_dir).rglob('scalars.json')
        assert 'lvis/bbox_AP' in ''.join(path.read_text() for path in logs)


def test_fault_in_one_process_ends_both_before_the_checkpoint(
    config, tmp_path
):
    config.custom_hooks.append(dict(type='NudgeOnRank0'))
    run = launch(config, tmp_path)
    assert run.returncode != 0
    assert 'must stay bitwise' in run.stdout
    assert 'bn1.running_mean' in run.stdout
    assert not list(Path(config.work_dir).glob('*.pth'))


def test_nccl_without_a_gpu_is_refused_in_one_line(config, tmp_path):
    config.env_cfg.dist_cfg.backend = 'nccl'
    run = launch(config, tmp_path)
    assert run.returncode != 0
    assert 'env_cfg.dist_cfg.backend must be gloo' in run.stdout
