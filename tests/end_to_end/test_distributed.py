"""Two processes on a CPU, launched as a user does: `mim train`."""

import json
import time
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS

from mmfrozen.reports.verify import verify

from .launch import finish, start

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


def set_backbone(cfg, name, folder):
    """Exchange the backbone; its classifier has random weights."""
    torch.manual_seed(3)
    inner = BACKBONES[name]
    state = MODELS.build(inner).state_dict()
    path = folder / f'{name}.pth'
    torch.save(
        {'state_dict': {f'backbone.{k}': state[k] for k in state}}, path
    )
    init_cfg = dict(
        type='Pretrained', checkpoint=str(path), prefix='backbone.'
    )
    cfg.model.backbone = dict(
        type='FrozenBackbone', backbone=dict(inner, init_cfg=init_cfg)
    )
    cfg.model.neck.update(NECKS[name])


def launch(cfg, folder):
    """Train by `mim` in two processes."""
    return finish(start(cfg, folder, '--launcher', 'pytorch', '--gpus', '2'))


def read_ranks(cfg):
    paths = sorted(Path(cfg.work_dir).glob('rank_*.json'))
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize('backbone', BACKBONES)
def test_two_processes_train_all_but_the_frozen_backbone(
    backbone, probed, tmp_path
):
    if BACKBONES[backbone]:
        set_backbone(probed, backbone, tmp_path)
    else:
        probed.train_cfg.val_interval = 2  # validation runs too
        probed.model.test_cfg.rcnn.score_thr = 0.0  # and finds something
    status, output = launch(probed, tmp_path)
    assert status == 0, output[-4000:]
    ranks = read_ranks(probed)
    assert len(ranks) == 2
    for seen in ranks:
        assert not seen['find_unused_parameters']
        for held in ('in_buckets', 'in_optimizer'):
            assert seen[held], 'the rest trains'
            assert not [n for n in seen[held] if n.startswith('backbone.')]
        assert sorted(seen['in_buckets']) == sorted(seen['in_optimizer'])
        own = [n for n in seen['before'] if n.startswith('backbone.')]
        assert own and all(seen['before'][n] == seen['after'][n] for n in own)
    first, second = (seen['after'] for seen in ranks)
    trained = ranks[0]['in_buckets']
    assert all(first[n] == second[n] for n in trained + own)
    assert any(first[n] != ranks[0]['before'][n] for n in trained)
    left = [Path(probed.work_dir, f'rank_{r}.exit') for r in range(2)]
    assert [path.read_text() for path in left] == ['alone'] * 2
    assert output.count('SyncBN needs GPUs') == 1
    assert ranks[0]['norms'] == ['_BatchNormXd']
    saved = Path(probed.work_dir, 'epoch_2.pth')
    assert verify(str(saved)).changed == []
    if not BACKBONES[backbone]:
        logs = Path(probed.work_dir).rglob('scalars.json')
        assert 'lvis/bbox_AP' in ''.join(path.read_text() for path in logs)


def test_one_bit_that_changes_in_another_process_ends_both_with_one_line(
    probed, tmp_path
):
    probed.custom_hooks.append(dict(type='FlipBitOnRank1'))
    status, output = launch(probed, tmp_path)
    assert status != 0
    assert output.count('must stay frozen and bitwise') == 1
    assert 'at iteration 1 on rank 1: 1 changed tensors' in output
    assert 'layer1.0.conv1.weight' in output
    assert not list(Path(probed.work_dir).glob('*.pth')), 'before it is saved'


def test_a_process_that_is_killed_ends_the_other_within_a_minute(
    probed, tmp_path
):
    probed.custom_hooks.append(dict(type='KillRank1'))
    status, output = launch(probed, tmp_path)
    killed_at = float(Path(probed.work_dir, 'killed_at').read_text())
    assert time.time() - killed_at < 60
    assert status != 0
    assert output.count('Signal 9 (SIGKILL) received') == 1
    saved = Path(probed.work_dir, 'epoch_1.pth')
    assert verify(str(saved)).changed == [], 'the last checkpoint is whole'
    assert not Path(probed.work_dir, 'epoch_2.pth').exists()
