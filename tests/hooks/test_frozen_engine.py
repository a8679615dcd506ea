"""The engine in real runs."""

import json
import logging
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmfrozen.engine import measure
from mmfrozen.engine.variants import GraphRun
from mmfrozen.hooks import FrozenEngineHook
from tests.tiny import build, tiny_config

ENGINE = dict(type='mmfrozen.FrozenEngineHook')


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Engines take half the time."""
    monkeypatch.setattr(
        measure, 'seconds', lambda run, _: 1 - isinstance(run, GraphRun) / 2
    )


class Watch(Hook):
    """Notes the losses of every step and how the backbone ran."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.losses, self.plain_calls, self.lines = [], [], []
        backbone = runner.model.backbone
        cls = type(backbone)
        watch = self

        class Counted(cls):
            def forward(self, x):
                watch.plain_calls.append(runner.model.training)
                return super().forward(x)

        Counted.__name__ = cls.__name__
        backbone.__class__ = Counted

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        self.losses.append(
            {k: torch.as_tensor(v).item() for k, v in outputs.items()}
        )


def train(cfg, *hooks, engine=ENGINE):
    """A run, its watch and the warnings and news of the engine."""
    cfg.custom_hooks = [engine] if engine else []
    cfg.log_level = 'INFO'
    runner = build(cfg)
    watch, lines = Watch(), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    runner.logger.addHandler(handler)
    for hook in (watch, *hooks):
        runner.register_hook(hook)
    runner.train()
    watch.lines = [x for x in lines if 'ackbone at' in x or 'Engine' in x]
    return runner, watch


def shorten(cfg):
    """Two steps and no validation."""
    cfg.train_cfg.max_epochs = 1
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    return cfg


def saved(cfg, epoch):
    path = Path(cfg.work_dir, f'epoch_{epoch}.pth')
    return torch.load(path, weights_only=False)['state_dict']


def assert_close(losses, others):
    assert len(losses) == len(others) > 0
    for step, other in zip(losses, others, strict=True):
        assert step == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_ten_steps_with_an_engine_are_those_without(
    tmp_path, mini_lvis, resnet18
):
    runs = []
    for name, engine in (('plain', None), ('engine', ENGINE)):
        cfg = tiny_config(tmp_path / name, mini_lvis, resnet18)
        cfg.train_cfg.update(max_epochs=5, val_interval=5)
        cfg.randomness.seed = 1  # where rounding flips no assignment
        runner, watch = train(cfg, engine=engine)
        runs.append((cfg, runner, watch))
    (plain, _, without), (cfg, runner, watch) = runs
    assert len(watch.losses) == 10
    assert_close(watch.losses, without.losses)
    # one batch to compare; validation is plain
    assert len(watch.lines) == 1
    assert 'The backbone at 2 x 3 x 64 x 64 runs oneDNN' in watch.lines[0]
    assert without.plain_calls.count(True) == 10
    in_training = watch.plain_calls.count(True)
    assert 0 < in_training < 10
    assert watch.plain_calls.count(False) == 4 // 2
    assert 'forward' not in vars(runner.model.backbone)
    # the guard has compared bits at every checkpoint
    record = json.loads(Path(cfg.work_dir, 'backbone.json').read_text())
    assert record['verified_iter'] == 10
    states = saved(plain, 5), saved(cfg, 5)
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        if name.startswith('backbone.'):
            assert torch.equal(tensor, states[1][name]), name
        elif tensor.is_floating_point():
            assert torch.allclose(tensor, states[1][name], atol=1e-4), name


def test_a_resumed_run_has_an_engine_with_checkpointed_blocks_too(
    tmp_path, mini_lvis, resnet18
):
    for name, epochs in (('half', 1), ('resumed', 2)):
        cfg = tiny_config(tmp_path / name, mini_lvis, resnet18)
        shorten(cfg).train_cfg.max_epochs = epochs
        cfg.model.backbone.with_cp = True
        if name == 'resumed':
            cfg.load_from = str(tmp_path / 'half' / 'epoch_1.pth')
            cfg.resume = True
        runner, watch = train(cfg)
        assert len(watch.losses) == 2
        assert len(watch.lines) == 1 and 'runs oneDNN' in watch.lines[0]
    assert runner.iter == 4


def test_a_file_with_averaged_weights_has_those_of_the_classifier(config):
    shorten(config)
    ema = dict(type='EMAHook')
    config.custom_hooks = [ENGINE, ema]
    build(config).train()  # the guard compares the file
    path = Path(config.work_dir, 'epoch_1.pth')
    assert 'ema_state_dict' in torch.load(path, weights_only=False)


class Loads(Hook):
    """Loads other weights after the first step, as nobody should."""

    def after_train_iter(self, runner, *_, **__):
        if runner.iter == 0:
            state = runner.model.backbone.state_dict()
            runner.model.backbone.load_state_dict(
                {
                    k: v * 1.5 if v.is_floating_point() else v
                    for k, v in state.items()
                }
            )


def test_weights_that_are_loaded_while_training_are_used(
    tmp_path, mini_lvis, resnet18
):
    runs = []
    for name, engine in (('plain', None), ('engine', ENGINE)):
        cfg = tiny_config(tmp_path / name, mini_lvis, resnet18)
        shorten(cfg)
        del cfg.default_hooks['frozen_guard']
        cfg.default_hooks.checkpoint = None
        runs.append(train(cfg, Loads(), engine=engine)[1])
    assert_close(runs[1].losses, runs[0].losses)
    assert len(runs[1].lines) == 2  # built twice


def test_a_frozen_timm_backbone_runs_as_an_engine(config):
    config.model.backbone = dict(
        _delete_=True,
        type='FrozenBackbone',
        backbone=dict(
            type='mmfrozen.TimmBackbone',
            model_name='resnet10t',
            out_indices=(1, 2, 3, 4),
        ),
    )
    config.model.backbone.pop('_delete_')
    shorten(config)
    del config.default_hooks['frozen_guard']  # its weights are random
    _, watch = train(config)
    assert 'runs oneDNN' in watch.lines[0]


def thaw(cfg):
    cfg.model.backbone.frozen_stages = 1
    cfg.default_hooks.frozen_guard.state = 'partial'


def adapt(cfg):
    backbone = cfg.model.backbone
    backbone.pop('frozen_stages')
    cfg.model.backbone = dict(
        type='FrozenBackbone', backbone=backbone, adapters=dict()
    )
    cfg.default_hooks.frozen_guard.state = 'partial'


def compile_whole(cfg):
    cfg.compile = dict(backend='eager', disable=True)


@pytest.mark.parametrize(
    'change, words',
    [
        (thaw, 'parameters require grad, the first is layer2'),
        (adapt, 'parameters require grad, the first is adapters'),
        (compile_whole, 'got compile in the config'),
    ],
)
def test_what_has_no_engine_trains_as_it_is_and_says_so_once(
    config, change, words
):
    change(config)
    shorten(config)
    _, watch = train(config)
    assert len(watch.losses) == len(watch.plain_calls) == 2
    assert len(watch.lines) == 1
    assert 'FrozenEngineHook must have' in watch.lines[0]
    assert words in watch.lines[0] and '\n' not in watch.lines[0]


def test_the_control_inherits_the_hook_and_trains(
    tmp_path, mini_lvis, resnet18
):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18, 'finetuned')
    shorten(cfg)
    _, watch = train(cfg)
    assert len(watch.plain_calls) == 2
    assert 'require grad' in watch.lines[0]


def test_hooks_inside_the_backbone_are_called(config):
    class Looks(Hook):
        seen = 0

        def before_train(self, runner):
            runner.model.backbone.layer1.register_forward_hook(self.look)

        def look(self, *_):
            self.seen += 1

    shorten(config)
    looks = Looks()
    _, watch = train(config, looks)
    assert looks.seen == 2
    assert 'without hooks inside, got one on layer1' in watch.lines[0]


@pytest.mark.parametrize(
    'option',
    [
        dict(dtype='int8'),
        dict(compiled='yes'),
        dict(compiled=1),
        dict(tolerance=0),
        dict(max_sizes=0.5),
    ],
)
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match='must be .*, got') as caught:
        FrozenEngineHook(**option)
    assert 'custom_hooks.FrozenEngineHook.' in str(caught.value)


def test_a_graph_that_calls_no_forward_is_given_up_for_other_weights(config):
    class Graphs(Hook):
        """As CUDAGraphHook does."""

        def before_train(self, runner):
            runner.model.run_static = runner.model.run_static

    shorten(config)
    del config.default_hooks['frozen_guard']
    runner, _ = train(config, Graphs(), Loads())
    assert 'run_static' not in vars(runner.model)
