"""Averages of a run whose frozen weights are not copied."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import EMAHook, Hook

from mmfrozen.hooks import FrozenAwareEMAHook
from tests.tiny import build, tiny_config

OPTIONS = dict(momentum=0.3, update_buffers=True)
OURS = dict(type='mmfrozen.FrozenAwareEMAHook', **OPTIONS)
STOCK = dict(type='EMAHook', **OPTIONS)


@pytest.fixture
def run(tmp_path, mini_lvis, resnet18):
    """Train two epochs of two steps; return the runner."""

    def train(name, ema, *hooks, **changes):
        cfg = tiny_config(tmp_path / name, mini_lvis, resnet18)
        cfg.custom_hooks = [ema]
        cfg.default_hooks.checkpoint.update(max_keep_ckpts=-1)
        cfg.update(changes)
        runner = build(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        return runner

    return train


def hook_of(runner):
    return next(h for h in runner.hooks if isinstance(h, EMAHook))


def checkpoint(runner, epoch):
    path = Path(runner.work_dir, f'epoch_{epoch}.pth')
    return torch.load(path, weights_only=False)


def assert_same(runner, other):
    for part in ('state_dict', 'ema_state_dict'):
        mine, theirs = (checkpoint(r, 2)[part] for r in (runner, other))
        assert mine.keys() == theirs.keys()
        for name, tensor in theirs.items():
            torch.testing.assert_close(
                mine[name], tensor, rtol=0, atol=1e-7, msg=name
            )


def test_averages_are_those_of_mmengine_without_copies_of_frozen_weights(run):
    ours, stock = run('ours', OURS), run('stock', STOCK)
    assert_same(ours, stock)
    hook = hook_of(ours)
    averaged = dict(hook.ema_model.module.named_parameters())
    shared = {
        name
        for name, param in ours.model.named_parameters()
        if averaged[name].data_ptr() == param.data_ptr()
    }
    frozen = {
        k for k, p in ours.model.named_parameters() if not p.requires_grad
    }
    assert shared == frozen and any('backbone.' in name for name in frozen)
    assert not frozen & hook.ema_model.avg_parameters.keys()


def test_a_run_of_mmengines_hook_is_resumed(run):
    stock = run('stock', STOCK)
    resumed = run(
        'resumed',
        OURS,
        load_from=str(Path(stock.work_dir, 'epoch_1.pth')),
        resume=True,
    )
    assert_same(resumed, stock)


class Thaw(Hook):
    def after_train_iter(self, runner, *_, **__):
        runner.model.backbone.layer4.requires_grad_(True)


def test_weights_that_are_thawed_in_the_run_are_refused(run):
    with pytest.raises(ValueError, match=r'got backbone\.layer4.*Use EMAHook'):
        run('thawed', OURS, Thaw())


def test_a_control_is_averaged_as_a_whole(tmp_path, mini_lvis, resnet18):
    cfg = tiny_config(tmp_path, mini_lvis, resnet18, 'finetuned')
    cfg.custom_hooks = [OURS]
    cfg.train_cfg.max_epochs = 1
    runner = build(cfg)
    runner.train()
    hook = hook_of(runner)
    assert isinstance(hook, FrozenAwareEMAHook)
    assert (
        hook.ema_model.avg_parameters.keys()
        >= dict(runner.model.named_parameters()).keys()
    )
