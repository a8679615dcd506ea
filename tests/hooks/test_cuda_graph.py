"""When the static part of a step is captured, and when it runs plainly."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict

from mmfrozen.hooks import CUDAGraphHook, cuda_graph
from mmfrozen.hooks.cuda_graph import GraphedStaticPart
from tests.models.batched.conftest import build_pair, config, make_batch, run
from tests.models.batched.test_steps import boxes
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


BATCH = [boxes(3, 0), boxes(2, 1)]


@pytest.fixture
def detector():
    settings = config()
    settings.neck.norm_cfg = dict(type='BN')
    return build_pair(ConfigDict(settings))[1]


def graphed(detector, monkeypatch, capture):
    """Let something else take the place of CUDA's capture."""
    calls = []

    def captured(part, images):
        def replay(images):
            calls.append(tuple(images.shape))
            return capture(part, images)

        return replay

    monkeypatch.setattr(cuda_graph, 'capture', captured)
    detector.run_static = GraphedStaticPart(detector)
    return calls


def step(detector, batch):
    torch.manual_seed(0)
    return run(detector, batch)


def test_a_captured_step_is_the_plain_one(detector, monkeypatch):
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    plain, plain_grads = step(detector, make_batch(BATCH))
    after = {k: v.clone() for k, v in detector.state_dict().items()}
    detector.load_state_dict(before)
    calls = graphed(detector, monkeypatch, lambda part, x: part(x))
    found, grads = step(detector, make_batch(BATCH))
    assert len(calls) == 2  # the trial and the step
    assert found == plain
    assert grads.keys() == plain_grads.keys()
    assert all(torch.equal(g, plain_grads[n]) for n, g in grads.items())
    # the trial leaves no trace in the statistics
    for name, value in detector.state_dict().items():
        assert torch.equal(value, after[name]), name


def test_another_size_runs_plainly_and_says_so_once(detector, monkeypatch):
    said = []
    monkeypatch.setattr(
        cuda_graph, 'print_log', lambda text, **_: said.append(text)
    )
    calls = graphed(detector, monkeypatch, lambda part, x: part(x))
    step(detector, make_batch(BATCH))
    wide = make_batch(BATCH, shapes=[(128, 192)] * 2)
    count = len(calls)
    for _ in range(2):
        step(detector, wide)
    assert len(calls) == count
    step(detector, make_batch(BATCH))
    assert len(calls) == count + 1
    assert len(said) == 2  # of the capture, and of the size


@pytest.mark.parametrize('kind', ['fails', 'differs', 'is not finite'])
def test_a_capture_that_fails_or_differs_is_not_used(
    detector, monkeypatch, kind
):
    wanted, _ = step(detector, make_batch(BATCH))

    def capture(part, images):
        if kind == 'fails':
            raise RuntimeError('operation not permitted when capturing')
        x, outputs = part(images)
        wrong = 1.5 if kind == 'differs' else float('nan')
        return [f * wrong for f in x], outputs

    calls = graphed(detector, monkeypatch, capture)
    for _ in range(2):
        assert step(detector, make_batch(BATCH))[0] == wanted
    assert len(calls) == 1
