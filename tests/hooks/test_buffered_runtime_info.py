"""Losses are recorded as MMEngine records them, but read when logged."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook

from mmfrozen.hooks import BufferedRuntimeInfoHook
from tests.tiny import build, tiny_config


def train(folder, data, weights, kind):
    cfg = tiny_config(folder / kind, data, weights)
    cfg.default_hooks.runtime_info = dict(type=kind)
    cfg.default_hooks.logger.interval = 3
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=1
    )
    build(cfg).train()
    scalars = next(Path(cfg.work_dir).rglob('scalars.json')).read_text()
    return cfg.work_dir, [json.loads(line) for line in scalars.splitlines()]


def history(work_dir, iteration):
    file = Path(work_dir, f'iter_{iteration}.pth')
    hub = torch.load(file, weights_only=False)['message_hub']
    return {
        name: buffer._log_history.tolist()
        for name, buffer in hub['log_scalars'].items()
        if 'loss' in name or name == 'train/acc'
    }


def test_log_and_checkpoints_of_a_run_are_those_of_mmengine(
    tmp_path, mini_lvis, resnet18
):
    (wanted_dir, wanted), (found_dir, found) = (
        train(tmp_path, mini_lvis, resnet18, kind)
        for kind in ('RuntimeInfoHook', 'BufferedRuntimeInfoHook')
    )
    measured = {'time', 'data_time', 'memory'}
    assert len(found) == len(wanted) >= 2
    for line, other in zip(found, wanted, strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - measured:
            if 'time' not in name and 'step_cost' not in name:
                assert line[name] == pytest.approx(other[name], nan_ok=True), (
                    name
                )
    for iteration in (1, 2, 4):
        losses = history(found_dir, iteration)
        assert losses == history(wanted_dir, iteration)
        assert {len(x) for x in losses.values()} == {iteration}


def test_losses_are_not_read_before_they_are_logged():
    hook, logger = BufferedRuntimeInfoHook(), LoggerHook(interval=3)
    runner = SimpleNamespace(hooks=[logger], train_dataloader=range(10))
    unreadable = dict(loss=torch.empty((), device='meta', requires_grad=True))
    for step in (0, 1):
        hook.after_train_iter(runner, step, outputs=unreadable)
    with pytest.raises((RuntimeError, NotImplementedError)):
        hook.after_train_iter(runner, 2, outputs=unreadable)
