"""A control is fine-tuned only if its backbone moved."""

from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import ResNet

from tests.tiny import build, tiny_config


def control(folder, data, weights, **options):
    cfg = tiny_config(folder / 'run', data, weights, 'finetuned')
    cfg.merge_from_dict(options)
    return cfg


def refused(cfg, words):
    runner = build(cfg)
    with pytest.raises(RuntimeError, match=words) as caught:
        runner.train()
    assert '\n' not in str(caught.value)
    assert not list(Path(cfg.work_dir).glob('*.pth')), 'none is written'


@pytest.mark.parametrize('key', ['backbone', 'backbone.layer'])
def test_a_rate_of_0_is_refused_or_told(
    tmp_path, mini_lvis, resnet18, key, caplog
):
    keys = {key: dict(lr_mult=0.0, decay_mult=0.0)}
    cfg = control(tmp_path, mini_lvis, resnet18)
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys=keys)
    if key == 'backbone':
        refused(cfg, 'must move in a finetuned run, got at iteration')
        return
    runner = build(cfg)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert 'of model.backbone have not moved' in caplog.text


def test_a_forward_pass_without_gradients_is_refused(
    tmp_path, mini_lvis, resnet18, monkeypatch
):
    monkeypatch.setattr(ResNet, 'forward', torch.no_grad()(ResNet.forward))
    refused(control(tmp_path, mini_lvis, resnet18), 'no_grad')


def test_a_checkpoint_before_the_first_update_is_written(
    tmp_path, mini_lvis, resnet18
):
    cfg = control(tmp_path, mini_lvis, resnet18)
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=1
    )
    build(cfg).train()
    assert len(list(Path(cfg.work_dir).glob('iter_*.pth'))) >= 2


def test_a_control_that_moves_goes_on_in_silence(
    tmp_path, mini_lvis, resnet18, caplog
):
    runner = build(control(tmp_path, mini_lvis, resnet18))
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert 'not moved' not in caplog.text
    assert runner.iter == 4
