"""Clocks, samples and meters of the step cost, without a run."""

import copy
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmfrozen.hooks.step_cost.memory_energy import EnergyMeter, MemoryMeter
from mmfrozen.hooks.step_cost.step_context import autocast_name
from mmfrozen.hooks.step_cost.step_meter import StepMeter
from mmfrozen.hooks.step_cost.step_timer import (
    CudaClock,
    StepSample,
    StepTimer,
    spreads,
)

CPU = torch.device('cpu')


class Device:
    """A device that comes to its marks when the test lets it."""

    name = 'test'

    def __init__(self):
        self.queued = self.done = 0

    def mark(self):
        self.queued += 1
        return self.queued

    def is_past(self, mark):
        return mark <= self.done

    def seconds(self, begin, end):
        assert end <= self.done, 'asked before the device was there'
        return end - begin


def test_step_is_read_only_when_the_device_has_finished_it():
    device = Device()
    timer = StepTimer(device)
    timer.begin('data')
    for _ in range(2):
        timer.enter('forward')
        timer.enter('backbone')
        timer.enter('forward')
        timer.finish('data', keep=True)
    assert timer.read() == []
    device.done = 5
    assert timer.read() == [dict(data=1, forward=2, backbone=1, step=4)]
    device.done = 9
    assert len(timer.read()) == 1 and timer.read() == []


def test_step_that_is_not_kept_or_not_finished_leaves_no_trace():
    timer = StepTimer(device := Device())
    timer.enter('forward')
    assert timer.part is None, 'nothing has begun'
    timer.begin('data')
    timer.finish('data', keep=False)
    timer.enter('forward')
    timer.begin('data')  # a validation came between
    timer.enter('backward')
    timer.finish('data', keep=True)
    device.done = device.queued
    assert timer.read() == [dict(data=1, backward=1, step=2)]


@settings(deadline=None, max_examples=50)
@given(num=st.integers(0, 300), half=st.integers(1, 20))
def test_sample_is_bounded_and_evenly_spread(num, half):
    sample = StepSample(2 * half)
    for i in range(num):
        sample.add({'step': float(i)})
    kept = [step['step'] for step in sample._steps]
    assert sample.num_seen == num and len(kept) <= 2 * half
    assert len(kept) >= min(num, half)
    gaps = set(np.diff(kept))
    assert len(gaps) <= 1, 'every k-th step'
    assert kept[:1] == [0][:num]
    assert len(kept) < 2 or kept[-1] + kept[1] >= num, 'to the end'


def test_spread_is_over_the_steps_that_have_the_part():
    steps = [{'a': float(i)} for i in range(1, 6)]
    steps[4]['b'] = 7.0
    found = spreads(steps)
    assert (found['a'].lower, found['a'].median, found['a'].upper) == (2, 3, 4)
    assert (found['b'].median, found['b'].num) == (7, 1)
    assert spreads([]) == {}


def test_cuda_clock_reads_milliseconds_of_events(monkeypatch):
    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.at = None

        def record(self):
            self.at = next(moments)

        def query(self):
            return self.at < 100

        def elapsed_time(self, end):
            return end.at - self.at

    moments = iter([10, 60, 200])
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    timer = StepTimer(CudaClock())
    timer.begin('data')
    timer.finish('data', keep=True)
    timer.finish('data', keep=True)
    assert timer.read() == [dict(data=0.05, step=0.05)]
    assert timer.read() == [], 'the second step is not past'


def test_memory_is_the_largest_that_was_seen():
    sizes = iter([3, 9, 5])
    meter = MemoryMeter(CPU, lambda: next(sizes))
    assert meter.read().resident_peak_bytes is None
    for _ in range(3):
        meter.sample_resident()
    meter.sample_cuda()
    found = meter.read()
    assert found.resident_peak_bytes == 9
    assert found.cuda_allocated_peak_bytes is None
    assert found.process_peak_bytes > 1e7


@pytest.fixture
def nvml(monkeypatch):
    """A GPU whose counter the test moves, in millijoules."""
    monkeypatch.setattr(
        torch.cuda,
        'get_device_properties',
        lambda device: SimpleNamespace(uuid='abc'),
    )
    gpu = SimpleNamespace(count=1000)
    gpu.nvmlInit = lambda: None
    gpu.nvmlDeviceGetHandleByUUID = lambda name: name
    gpu.nvmlDeviceGetTotalEnergyConsumption = lambda handle: (
        gpu.count if handle == 'GPU-abc' else pytest.fail(handle)
    )
    return gpu


def test_energy_leaves_validation_out(nvml):
    meter = EnergyMeter(torch.device('cuda'), nvml)
    assert meter.note is None and meter.joules_per_step() is None
    meter.begin(0)
    nvml.count += 4000
    meter.lap(2)
    assert meter.joules_per_step() == 2
    nvml.count += 2000
    meter.end(4)
    nvml.count += 10**6  # validation
    meter.begin(4)
    nvml.count += 6000
    meter.end(6)
    assert meter.joules_per_step() == 2


def test_energy_that_nothing_measures_says_why(nvml, monkeypatch):
    def fail(handle):
        raise RuntimeError('Not Supported')

    gpu = torch.device('cuda')
    assert 'this is a cpu' in EnergyMeter(CPU, nvml).note
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    assert 'mmfrozen[energy]' in EnergyMeter(gpu).note
    nvml.nvmlDeviceGetTotalEnergyConsumption = fail
    meter = EnergyMeter(gpu, nvml)
    assert 'Not Supported' in meter.note
    meter.begin(0)
    meter.end(3)
    assert meter.joules_per_step() is None


def test_autocast_is_named_while_it_is_on():
    assert autocast_name('cpu') == ''
    with torch.autocast('cpu', torch.bfloat16):
        assert autocast_name('cpu') == ' with autocast to bfloat16'


class Plain(nn.Linear):
    """A model without a backbone or a preprocessor."""

    def __init__(self):
        super().__init__(2, 2)

    def train_step(self, wrappers):
        wrappers['a'].backward(self(torch.ones(1, 2)).sum(), retain_graph=True)
        for wrapper in wrappers.values():
            wrapper.step()


def test_models_without_parts_and_several_optimizers_are_timed():
    model = Plain()
    wrappers = dict(
        a=OptimWrapper(torch.optim.SGD([model.weight], 0.1)),
        b=OptimWrapper(torch.optim.SGD([model.bias], 0.1)),
    )
    meter = StepMeter(
        model,
        OptimWrapperDict(**wrappers),
        warmup=0,
        count_flops=True,
        clock=(device := Device()),
    )
    meter.resume(0)
    for step in (1, 2):  # the first would be counted
        meter.begin_step(step)
        model.train_step(wrappers)
        meter.mark_updated()
        meter.finish_step()
    device.done = device.queued
    [step] = meter.read()
    assert set(step) == {'data', 'hooks', 'backward', 'optimizer', 'step'}
    assert 'Plain has none of its own' in meter.notes()['seconds.backbone']
    assert 'no data_preprocessor' in meter.notes()['flops']
    meter.close()
    assert all('backward' not in vars(w) for w in wrappers.values())
    assert 'train_step' not in vars(model)


def test_copies_of_the_model_are_neither_timed_nor_in_the_way():
    model = Plain()
    model.backbone = nn.Linear(2, 2)
    device = Device()
    meter = StepMeter(
        model,
        OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)),
        warmup=0,
        count_flops=False,
        clock=device,
    )
    meter.resume(0)
    meter.begin_step(1)
    meter.timer.enter('forward')
    before = device.queued
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.backbone(torch.ones(1, 2))
    assert device.queued == before
    model.backbone(torch.ones(1, 2))
    assert device.queued == before + 2


def test_compiled_model_is_not_looked_into():
    model = Plain()
    model.backbone = nn.Linear(2, 2)
    meter = StepMeter(
        model,
        OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)),
        warmup=0,
        count_flops=True,
        is_compiled=True,
    )
    assert not model.backbone._forward_hooks
    assert 'compiled' in meter.notes()['seconds.backbone']
    assert 'compiled' in meter.notes()['flops']
