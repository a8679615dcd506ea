"""The loops in one process: evaluations, seeds, old checkpoints."""

from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS

from mmfrozen.loops import train_loops
from tests.loops.noisy import noisy_config
from tests.tiny import build

IDS = ('Epoch', 'Iter')


@METRICS.register_module()
class Count(BaseMetric):
    """How often it was asked."""

    steps: list = []
    breaks = False

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        hub = Count.runner.message_hub
        if Count.breaks:
            raise InterruptedError
        Count.steps.append(hub.get_info('iter') + 1)
        torch.rand(5)
        return dict(score=Count.steps[-1])


class Ids(Hook):
    """The images of every step."""

    def __init__(self):
        self.seen = {}

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        ids = [x.img_id for x in data_batch['data_samples']]
        self.seen[runner.iter] = batch_idx, ids


@pytest.fixture
def config(tmp_path, mini_lvis):
    """Six steps an epoch, an evaluation and a checkpoint at four of them."""

    def make(kind, name='run', stock=False, evaluate=True):
        cfg = noisy_config(tmp_path, mini_lvis, name)
        cfg.train_dataloader.dataset.dataset.indices = 12
        length = dict(max_epochs=2) if kind == 'Epoch' else dict(max_iters=12)
        scope = '' if stock else 'mmfrozen.Resumable'
        cfg.train_cfg = dict(
            type=f'{scope}{kind}BasedTrainLoop',
            val_interval=1 if kind == 'Epoch' else 4,
            **length,
        )
        cfg.val_evaluator = dict(type='Count')
        if not evaluate:
            cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
        cfg.default_hooks.checkpoint.update(
            by_epoch=False, interval=2, max_keep_ckpts=-1
        )
        return cfg

    Count.steps, Count.breaks = [], False
    return make


def run(cfg, resume=None):
    """Train; returns the images of each step and the weights."""
    if resume:
        cfg.resume, cfg.load_from = True, str(resume)
    runner = Count.runner = build(cfg)
    hook = Ids()
    runner.register_hook(hook)
    runner.train()
    return hook.seen, runner.model.state_dict()


def same(one, other):
    return all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize('kind', IDS)
def test_training_does_not_depend_on_evaluations(kind, config):
    seen, weights = run(config(kind))
    assert Count.steps == ([6, 12] if kind == 'Epoch' else [4, 8, 12])
    assert seen[0] != seen[6]
    seen_without, without = run(config(kind, 'other', evaluate=False))
    assert seen == seen_without and len(seen) == 12
    assert same(weights, without)


@pytest.mark.parametrize('kind', IDS)
def test_evaluation_that_broke_off_is_done_after_resuming(kind, config):
    _, weights = run(config(kind, 'whole'))
    expected = Count.steps
    Count.steps, Count.breaks = [], True
    with pytest.raises(InterruptedError):
        run(config(kind))
    Count.breaks = False
    last = Path(Path(config(kind).work_dir, 'last_checkpoint').read_text())
    assert last.stem == f'iter_{expected[0]}'
    seen, resumed = run(config(kind), resume=last)
    assert Count.steps == expected
    assert min(seen) == expected[0]
    assert same(weights, resumed)


@pytest.mark.parametrize('kind', IDS)
def test_evaluation_is_not_done_twice(kind, config):
    cfg = config(kind)
    best = dict(save_best='score', rule='greater')  # saves after it, too
    cfg.default_hooks.checkpoint.update(best)
    run(cfg)
    seen = Count.steps
    Count.steps = []
    run(cfg, resume=Path(cfg.work_dir, f'iter_{seen[0]}.pth'))
    assert Count.steps == seen[1:]
    Count.steps = []
    run(cfg, resume=Path(cfg.work_dir, 'iter_12.pth'))
    assert Count.steps == []


def test_stock_checkpoint_is_resumed_within_its_epoch(config):
    cfg = config('Epoch', stock=True)
    stock, _ = run(cfg)
    first = Path(cfg.work_dir, 'iter_8.pth')
    seen, _ = run(config('Epoch', 'ours'), resume=first)
    assert seen == {k: v for k, v in stock.items() if k >= 8}, 'its order'
    again, _ = run(config('Epoch', 'again', stock=True), resume=first)
    assert max(again) == 13, 'MMEngine begins the epoch anew'


def test_order_is_that_of_the_stock_loop(config):
    for kind in IDS:
        ours, _ = run(config(kind, 'ours', evaluate=False))
        stock, _ = run(config(kind, 'stock', stock=True, evaluate=False))
        assert ours == stock


def test_checkpoints_between_gradients_are_named(config, capsys):
    cfg = config('Iter', evaluate=False)
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.train_cfg.max_iters = 1
    run(cfg)
    printed = capsys.readouterr().out
    assert 'accumulative_counts=4 steps apart' in printed
    assert 'got 2' in printed


def test_seeds_of_processes_make_one_order(config, monkeypatch):
    for module in (mmengine.runner.utils, train_loops):
        monkeypatch.setattr(module, 'get_rank', lambda: 3)
    cfg = config('Epoch', evaluate=False)
    cfg.randomness = dict(seed=5, diff_rank_seed=True)
    runner = build(cfg)
    assert runner.seed == 8
    batches = runner.train_loop.batches
    assert batches.seed == batches.sampler.seed == 5
