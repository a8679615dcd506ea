"""The drift record of real runs, and its arithmetic."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmfrozen.freezing.drift import measure, same_bits, stage_of
from tests.tiny import build, tiny_config


def drifting(folder, data, weights, state, interval=1):
    cfg = tiny_config(folder / 'run', data, weights, state)
    cfg.default_hooks.drift = dict(type='DriftHook', interval=interval)
    return cfg


def read(cfg):
    return json.loads(Path(cfg.work_dir, 'drift.json').read_text())


def test_frozen_run_records_zeros(tmp_path, mini_lvis, resnet18):
    cfg = drifting(tmp_path, mini_lvis, resnet18, 'frozen', interval=3)
    build(cfg).train()
    records = read(cfg)
    assert [x['iter'] for x in records] == [3, 4], 'the end is recorded too'
    assert [x['epoch'] for x in records] == [1, 2]
    stages = records[-1]['stages']
    numbered = [f'backbone.stage {i}' for i in range(1, 5)]
    names = ['backbone.stem', *numbered, 'all']
    assert list(stages) == names
    for drift in stages.values():
        assert drift['num_changed'] == 0 < drift['num_tensors']
        assert drift['relative_l2'] == 0 and drift['cosine'] == 1
    scalars = next(Path(cfg.work_dir).rglob('scalars.json')).read_text()
    assert '"drift/stage_4": 0.0' in scalars


def test_resumed_run_goes_on_measuring_from_the_classifier(
    tmp_path, mini_lvis, resnet18
):
    cfg = drifting(tmp_path, mini_lvis, resnet18, 'finetuned')
    build(cfg).train()
    whole = read(cfg)
    assert [x['iter'] for x in whole] == [1, 2, 3, 4]
    assert all(
        x['stages']['backbone.stage 4']['relative_l2'] > 0 for x in whole
    )
    moves = [x['stages']['all']['relative_l2'] for x in whole]
    assert moves == sorted(moves), 'it moves away'
    cfg.resume, cfg.load_from = True, str(Path(cfg.work_dir, 'epoch_1.pth'))
    runner = build(cfg)
    runner.train()
    resumed = read(cfg)
    assert [x['iter'] for x in resumed] == [1, 2, 3, 4]
    assert resumed[:2] == whole[:2], 'what came before is kept'
    assert len({x['reference'] for x in resumed}) == 1
    weights = CheckpointLoader.load_checkpoint(str(resnet18), 'cpu')
    own = runner.model.backbone.state_dict()
    expected = measure({n: weights[n] for n in own}, own)['layer4']
    last = resumed[-1]['stages']['backbone.stage 4']
    assert last['relative_l2'] == pytest.approx(expected.relative_l2)


def test_interval_of_none_is_refused(tmp_path, mini_lvis, resnet18):
    cfg = drifting(tmp_path, mini_lvis, resnet18, 'frozen', interval=0)
    with pytest.raises(ValueError, match='default_hooks.drift.interval'):
        build(cfg)


def test_drift_of_known_vectors_is_what_a_hand_computes():
    before = {
        'layer1.0.weight': torch.tensor([3.0, 4.0]),
        'layer1.0.bn.running_var': torch.tensor([2.0]),
        'layer1.0.bn.num_batches_tracked': torch.tensor(0),
        'layer2.bias': torch.zeros(2),
    }
    after = {
        'layer1.0.weight': torch.tensor([4.0, -3.0]),
        'layer1.0.bn.running_var': torch.tensor([1.0]),
        'layer1.0.bn.num_batches_tracked': torch.tensor(5),
        'layer2.bias': torch.zeros(2),
    }
    stages = measure(before, after)
    first, second, total = (stages[n] for n in ('layer1', 'layer2', 'all'))
    assert (first.num_tensors, first.num_changed) == (3, 3)
    assert first.relative_l2 == pytest.approx(math.sqrt(2))
    assert first.cosine == pytest.approx(0)
    assert first.statistics_relative_l2 == pytest.approx(0.5)
    assert second.num_changed == 0
    assert second.relative_l2 is second.cosine is None  # of zeros
    assert (total.num_tensors, total.num_changed) == (4, 3)


@pytest.mark.parametrize(
    ('name', 'stage'),
    [
        ('layer3.5.conv2.weight', 'layer3'),
        ('conv1.weight', 'conv1'),
        ('patch_embed.projection.weight', 'patch_embed'),
        ('stages.2.blocks.0.attn.w_msa.qkv.weight', 'stages.2'),
        ('layers.0.conv.weight', 'layers.0'),
        ('model.blocks.4.1.bn1.running_mean', 'blocks.4'),
        ('model.model.blocks.4.norm1.weight', 'blocks.4'),
        ('cls_token', 'cls_token'),
    ],
)
def test_stage_is_named_as_the_state_dict_spells_it(name, stage):
    assert stage_of(name) == stage


def test_bits_tell_what_values_do_not():
    zero, nan = torch.zeros(1), torch.full((1,), math.nan)
    assert not same_bits(zero, -zero)
    assert same_bits(nan, nan.clone())
    assert not same_bits(zero, zero.double())
