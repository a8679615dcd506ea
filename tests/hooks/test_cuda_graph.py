"""The hook of CUDA graphs in real runs without a GPU."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mmfrozen.hooks import CUDAGraphHook
from mmfrozen.models.batched.cuda_graph import GraphedStaticPart
from tests.tiny import build, tiny_config


def test_a_run_without_a_gpu_trains_and_says_so(
    tmp_path, mini_lvis, resnet18, caplog
):
    cfg = tiny_config(tmp_path, mini_lvis, resnet18)
    cfg.custom_hooks = [dict(type='CUDAGraphHook')]
    runner = build(cfg)
    with caplog.at_level(logging.WARNING):
        runner.logger.addHandler(caplog.handler)
        runner.train()
    assert 'CUDAGraphHook must have a CUDA device' in caplog.text
    assert runner.iter == 4


@pytest.mark.parametrize('counts, captured', [(1, True), (2, False)])
def test_gradients_that_accumulate_are_not_captured(
    tmp_path, mini_lvis, resnet18, monkeypatch, counts, captured
):
    cfg = tiny_config(tmp_path, mini_lvis, resnet18)
    cfg.optim_wrapper.accumulative_counts = counts
    runner = build(cfg)
    hook, model = CUDAGraphHook(), runner.model
    fake = SimpleNamespace(
        model=model,
        logger=runner.logger,
        optim_wrapper=runner.build_optim_wrapper(cfg.optim_wrapper),
    )
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    hook.before_train(fake)
    assert isinstance(model.run_static, GraphedStaticPart) is captured
    hook.after_train(fake)
    assert 'run_static' not in vars(model)
