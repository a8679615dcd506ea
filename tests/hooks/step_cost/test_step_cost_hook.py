"""The record of what steps cost: of real runs, by a clock that we move."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mmfrozen.cost import FlopCounter
from mmfrozen.freezing import fingerprint
from mmfrozen.hooks import StepCostHook
from mmfrozen.reports.runs.work_dir import read_run
from tests.end_to_end.launch import finish, start
from tests.tiny import build, tiny_config

#: What each part of a step takes on the clock of these tests.
DATA, BACKBONE, NECK, BACKWARD, UPDATE, HOOK, VAL = 2, 3, 5, 7, 11, 13, 1000


class Clock:
    """Stands still but for what the test says that things take."""

    name = 'test'

    def __init__(self):
        self.now = 0

    def mark(self):
        return self.now

    def is_past(self, mark):
        return True

    def seconds(self, begin, end):
        return end - begin

    def takes(self, seconds, owner, name):
        """Let a method take time."""
        method = getattr(owner, name)

        def slow(*args, **kwargs):
            self.now += seconds
            return method(*args, **kwargs)

        setattr(owner, name, slow)


@HOOKS.register_module()
class SlowParts(Hook):
    """Lets all parts of a step take their time, itself among them."""

    priority = 'LOW'

    def __init__(self, clock):
        self.clock = clock

    def before_train(self, runner):
        takes, model = self.clock.takes, runner.model
        images = runner.train_dataloader.dataset.dataset
        takes(DATA / 2, images, 'prepare_data')  # two make a batch
        takes(VAL, runner.val_dataloader.dataset, 'prepare_data')
        takes(BACKBONE, model.backbone, 'forward')
        takes(NECK, model.neck, 'forward')
        takes(UPDATE, runner.optim_wrapper.optimizer, 'step')
        model.rpn_head.rpn_cls.weight.register_hook(self.backward)

    def backward(self, grad):
        self.clock.now += BACKWARD

    def after_train_iter(self, *args, **kwargs):
        self.clock.now += HOOK


def add_hook(cfg, **options):
    cfg.default_hooks.step_cost = dict(
        type='StepCostHook', **{'interval': 2, 'warmup': 1, **options}
    )


def run_slowly(cfg, **options):
    """Train, every part taking its time; returns the file."""
    clock = Clock()
    cfg.custom_hooks.append(dict(type='SlowParts', clock=clock))
    add_hook(cfg, clock=clock, **options)
    build(cfg).train()
    return read(cfg)


def read(cfg):
    return json.loads(Path(cfg.work_dir, 'step_cost.json').read_text())


def medians(record):
    return {part: s['median'] for part, s in record['seconds'].items()}


PARTS = dict(
    data=DATA,
    backbone=BACKBONE,
    forward=NECK,
    backward=BACKWARD,
    optimizer=UPDATE,
    hooks=HOOK,
)


def test_every_part_gets_its_own_time_and_they_sum_to_the_step(config):
    config.train_cfg.update(max_epochs=3, val_interval=1)
    [record] = run_slowly(config)
    assert medians(record) == {**PARTS, 'step': sum(PARTS.values())}
    assert record['num_steps'] == 6 - 2, 'one warms up, one is counted'
    assert record['seconds']['step']['upper'] == sum(PARTS.values()), (
        'validation is in none of them'
    )
    assert (record['begin_iter'], record['end_iter']) == (0, 6)
    assert record['iters_per_epoch'] == 2
    assert record['batch_shape'] == [2, 64, 64]
    assert record['config'] == 'mask_rcnn_r101_lvis'
    assert record['dtype'] == 'float32' and record['seed'] == 0
    assert record['timer'] == 'test'
    assert record['versions']['torch'] == torch.__version__.split('+')[0]
    assert record['memory']['resident_peak_bytes'] > 1e8
    assert record['memory']['cuda_allocated_peak_bytes'] is None
    assert 'NVML' in record['notes']['joules_per_step']


def test_iterations_that_only_accumulate_have_no_update(config):
    config.train_cfg.update(max_epochs=4)
    config.optim_wrapper.accumulative_counts = 2
    [record] = run_slowly(config, warmup=0, count_flops=False)
    assert record['accumulative_counts'] == 2
    assert (
        record['flops'] is None and 'count_flops' in record['notes']['flops']
    )
    seconds = record['seconds']
    assert seconds['step']['num'] == 8
    assert seconds['optimizer']['num'] == 4
    assert seconds['optimizer']['lower'] == UPDATE
    assert seconds['step']['lower'] == sum(PARTS.values()) - UPDATE


def test_iteration_based_run_leaves_validation_out(config):
    config.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=5, val_interval=1
    )
    config.train_dataloader.sampler = dict(type='InfiniteSampler')
    config.param_scheduler = []
    [record] = run_slowly(config)
    assert medians(record) == {**PARTS, 'step': sum(PARTS.values())}
    assert record['seconds']['data']['upper'] == DATA
    assert record['num_steps'] == 3 and record['iters_per_epoch'] == 2


def test_counted_flops_are_what_a_hand_computes(tmp_path, mini_lvis, resnet18):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18, 'finetuned')
    add_hook(cfg)
    build(cfg).train()
    flops = read(cfg)[0]['flops']
    assert (flops['iter'], flops['batch_shape']) == (2, [2, 64, 64])
    stem = 2 * 2 * 64 * 32 * 32 * 3 * 7 * 7  # 2 FLOPs, 2 images
    assert flops['components']['backbone.stem'] == dict(
        forward=stem, backward_input=0, backward_weight=stem
    )
    neck = flops['components']['neck']
    assert neck['backward_weight'] == neck['forward'] > 0
    head = flops['components']['roi_head.bbox_head']  # with its RoIAlign
    assert head['forward'] > head['backward_weight'] > 0
    assert flops['uncounted']['threshold_backward'] > 0


def test_weights_are_bitwise_what_they_are_without_the_hook(config):
    config.custom_hooks.append(dict(type='EMAHook'))
    plain = build(config)
    plain.train()
    add_hook(config)
    watched = build(config)
    watched.train()
    assert read(config)[0]['flops'], 'a step was counted'
    assert fingerprint(plain.model) == fingerprint(watched.model)
    model, wrapper = watched.model, watched.optim_wrapper
    assert not model.backbone._forward_hooks
    assert not model.data_preprocessor._forward_pre_hooks
    assert 'backward' not in vars(wrapper), 'nothing is left behind'
    assert 'step_meter' not in wrapper.step.__code__.co_filename


def test_resumed_run_keeps_what_was_measured_and_a_new_one_begins_anew(
    config,
):
    add_hook(config)
    runner = build(config)
    old = Path(config.work_dir, 'step_cost.json')
    old.write_text('[{"config": "of a run before"}]')
    runner.train()
    whole = read(config)
    assert len(whole) == 1 and whole[0]['begin_iter'] == 0
    config.resume = True
    config.load_from = str(Path(config.work_dir, 'epoch_1.pth'))
    build(config).train()
    first, second = read(config)
    assert [first] == whole
    assert (second['begin_iter'], second['end_iter']) == (2, 4)


def test_what_other_tools_read_of_a_run_is_not_disturbed(config):
    add_hook(config)
    config.default_hooks.logger.interval = 1
    config.visualizer.name = 'of this test'  # else that of the test before
    build(config).train()
    run = read_run(Path(config.work_dir))
    assert run.metrics == {} or all('lvis/' in name for name in run.metrics)
    [log] = Path(config.work_dir).rglob('scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    ours = [x for x in lines if 'step_cost/step_seconds' in x]
    assert [x['step'] for x in ours] == [4], 'at 2 nothing was timed yet'
    parts = {'data', 'backbone', 'forward', 'backward', 'optimizer', 'hooks'}
    assert set(ours[0]) == {
        *(f'step_cost/{part}_seconds' for part in (*parts, 'step')),
        'step',
    }
    assert sum('loss' in line for line in lines) == 4


def test_failing_count_is_a_note_and_no_end(config, monkeypatch):
    def fail(*args):
        raise KeyError('no such formula')

    monkeypatch.setattr(FlopCounter, '_choose', fail)
    add_hook(config)
    runner = build(config)
    runner.train()
    [record] = read(config)
    assert runner.iter == 4 and record['flops'] is None
    assert 'no such formula' in record['notes']['flops']
    assert record['num_steps'] == 2


def test_step_that_fails_while_it_is_counted_leaves_no_counter(config):
    def fail(features):
        raise RuntimeError('out of memory')

    add_hook(config, warmup=0)
    runner = build(config)
    runner.model.neck.forward = fail
    with pytest.raises(RuntimeError, match='out of memory'):
        runner.train()
    assert _get_current_dispatch_mode() is None
    left = vars(runner.model)['train_step'].__code__.co_name
    assert left != 'counted', 'NonFiniteHook has looked at the step again'


def test_hook_that_fails_stops_and_the_run_goes_on(config, monkeypatch):
    def fail(*args):
        raise RuntimeError('out of memory')

    monkeypatch.setattr(StepCostHook, '_make_record', fail)
    add_hook(config)
    runner = build(config)
    said = []
    runner.logger.warning = said.append
    runner.train()
    assert runner.iter == 4
    assert sum('StepCostHook must not end a run' in x for x in said) == 1
    assert not runner.model.backbone._forward_hooks


@pytest.mark.parametrize(
    ('option', 'value'),
    [('interval', 0), ('interval', 2.0), ('warmup', -1), ('warmup', True)],
)
def test_wrong_option_is_refused_by_its_name(option, value):
    with pytest.raises(ValueError, match=f'step_cost.{option} must be'):
        StepCostHook(**{option: value})


def test_one_of_two_processes_writes(config, tmp_path):
    config.env_cfg.dist_cfg = dict(backend='gloo')
    config.train_cfg.max_epochs = 4
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    add_hook(config)
    status, output = finish(
        start(config, tmp_path, '--launcher', 'pytorch', '--gpus', '2')
    )
    assert status == 0, output[-4000:]
    [record] = read(config)
    assert record['world_size'] == 2
    assert record['iters_per_epoch'] == 1, 'they share the images'
    assert record['num_steps'] == 2
    frozen = record['flops']['components']['backbone.stage 4']
    assert frozen['forward'] > 0
    assert frozen['backward_input'] == frozen['backward_weight'] == 0
    assert record['flops']['components']['neck']['backward_weight'] > 0
    assert 'StepCostHook must' not in output
