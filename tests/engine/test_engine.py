"""When a frozen backbone runs as an engine, and when without one."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmfrozen.engine import FrozenEngine, measure
from mmfrozen.engine import engine as engine_module
from mmfrozen.engine.measure import difference
from mmfrozen.engine.variants import GraphRun, Levels, Recording
from mmfrozen.freezing import freeze


class Net(nn.Module):
    """A convolution, a norm, an activation; two levels."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.norm(self.conv(x)).relu()
        return x, nn.functional.max_pool2d(x, 2)


class Tokens(Net):
    """What depends on the size of the images."""

    def forward(self, x):
        n, _, h, w = x.shape
        return (self.conv(x).flatten(2).reshape(n, 8, h, w),)


def images(*size, seed=0):
    return torch.randn(*size, generator=torch.manual_seed(seed))


SMALL, WIDE = (2, 3, 32, 32), (1, 3, 64, 96)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    nn.init.uniform_(net.norm.running_var, 0.5, 1.5)
    return freeze(net)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Engines take half the time."""
    monkeypatch.setattr(
        measure, 'seconds', lambda run, _: 1 - isinstance(run, GraphRun) / 2
    )


def install(net, on=True, **options):
    """An engine, and the lines that it logs."""
    lines = []
    engine = FrozenEngine(net, lambda: on, log=lines.append, **options)
    return engine, lines


def test_features_are_the_plain_ones_and_the_plain_pass_is_not_run(net):
    wanted = net(images(*SMALL, seed=1))
    _, lines = install(net)
    net(images(*SMALL))
    calls = net.calls
    found = net(images(*SMALL, seed=1))
    assert net.calls == calls
    assert isinstance(found, tuple)
    assert difference(list(found), list(wanted)) < 1e-5
    assert [x.stride() for x in found] == [x.stride() for x in wanted]
    assert not any(x.requires_grad for x in found)
    assert len(lines) == 1
    assert '500 ms in place of 1000 ms' in lines[0]
    assert 'relative error' in lines[0] and 'paid after' in lines[0]


def test_whatever_is_no_training_step_runs_plainly(net):
    install(net, on=False)
    net(images(*SMALL))
    assert net.calls == 1


def test_counters_of_operators_see_the_plain_ones(net):
    with FlopCounterMode(display=False) as plain:
        net(images(*SMALL))
    install(net)
    net(images(*SMALL))
    with FlopCounterMode(display=False) as counter:
        net(images(*SMALL))
    assert counter.get_total_flops() == plain.get_total_flops() > 0


def test_images_that_require_grad_run_plainly(net):
    install(net)
    x = images(*SMALL).requires_grad_()
    net(x)[0].sum().backward()
    assert x.grad is not None


def test_weights_that_are_loaded_later_are_used_at_once(net):
    _, lines = install(net)
    net(images(*SMALL))
    other = {k: v * 2 for k, v in net.state_dict().items()}
    net.load_state_dict(other)
    found = net(images(*SMALL))
    wanted = type(net).forward(net, images(*SMALL))
    assert difference(list(found), list(wanted)) < 1e-5
    assert 'rebuilt' in lines[1]


def test_weights_that_are_exchanged_or_written_unnoticed(net):
    engine, _ = install(net)
    net(images(*SMALL))
    net.conv.weight.data.mul_(2)
    assert not engine.reset_if_changed()
    assert engine.reset_if_changed(thoroughly=True)
    assert not engine.reset_if_changed(thoroughly=True)
    net.conv.weight = nn.Parameter(torch.ones(8, 3, 3, 3))
    assert engine.reset_if_changed()


def test_weights_that_are_written_as_they_are_keep_the_engine(net):
    engine, lines = install(net)
    net(images(*SMALL))
    net.norm.running_mean.copy_(net.norm.running_mean.clone())
    net(images(*SMALL))
    assert not engine.reset_if_changed(thoroughly=True)
    assert len(lines) == 1


def test_weights_that_change_again_and_again_end_the_engine(net):
    _, lines = install(net)
    for _ in range(6):
        net(images(*SMALL))
        net.norm.running_mean.add_(1)
    calls = net.calls
    net(images(*SMALL))
    assert net.calls == calls + 1
    assert sum('without an engine from now on' in line for line in lines) == 1


def test_the_module_is_as_it_was(net):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    names = [n for n, _ in net.named_modules()]
    engine, _ = install(net)
    net(images(*SMALL))
    assert [n for n, _ in net.named_modules()] == names
    after = net.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in after.items())
    engine.remove()
    assert 'forward' not in vars(net)


@pytest.mark.parametrize(
    'duplicate', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_run_plainly_with_their_own_weights(net, duplicate):
    install(net)
    net(images(*SMALL))
    other = duplicate(net)
    calls = other.calls
    with torch.no_grad():
        other.norm.bias.fill_(100.0)
    assert other(images(*SMALL))[0].mean() > 90
    assert other.calls == calls + 1


def test_one_engine_serves_all_sizes_of_a_convolutional_net(net):
    _, lines = install(net)
    net(images(*SMALL))
    net(images(*WIDE))
    calls = net.calls
    x = images(3, 3, 96, 32)
    found = net(x)
    assert net.calls == calls
    assert difference(list(found), list(type(net).forward(net, x))) < 1e-5
    assert len(lines) == 2 and 'all sizes' in lines[1]


def test_nets_that_depend_on_the_size_get_a_bounded_number_of_engines():
    net = freeze(Tokens())
    _, lines = install(net, max_sizes=2)
    for width in (32, 64, 96, 128, 32, 64):
        x = images(1, 3, 32, width)
        found, wanted = net(x), type(net).forward(net, x)
        assert difference(list(found), list(wanted)) < 1e-5
    assert sum('500 ms' in line for line in lines) == 2
    assert sum('further sizes' in line for line in lines) == 1


def test_an_engine_beyond_the_tolerance_is_declined(net):
    _, lines = install(net, tolerance=1e-9)
    net(images(*SMALL))
    calls = net.calls
    net(images(*SMALL))
    assert net.calls == calls + 1
    assert (
        'runs without an engine' in lines[0] and 'features differ' in lines[0]
    )


def test_features_that_are_not_finite_are_told(net):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1e38)
    _, lines = install(net)
    net(images(*SMALL))
    assert 'runs without an engine' in lines[0]
    assert 'the features are not finite' in lines[0]


def test_an_engine_that_is_no_faster_is_declined(net, monkeypatch):
    monkeypatch.setattr(measure, 'seconds', lambda *_: 1.0)
    _, lines = install(net)
    net(images(*SMALL))
    calls = net.calls
    net(images(*SMALL))
    assert net.calls == calls + 1
    assert 'runs without an engine, 1000 ms (oneDNN' in lines[0]


def test_a_later_compilation_has_the_dtype_of_autocast(net, monkeypatch):
    monkeypatch.setattr(measure, 'seconds', lambda *_: 1.0)
    engine, _ = install(net)
    with torch.autocast('cpu', torch.bfloat16):
        net(images(*SMALL))
    [choice] = engine._choices.values()
    assert choice.run is None and choice.dtype == torch.bfloat16


def test_what_cannot_be_recorded_runs_plainly():
    class Decides(Net):
        def forward(self, x):
            x = super().forward(x)[0]
            return (x if x.sum() > 0 else -x,)

    net = freeze(Decides())
    _, lines = install(net)
    for size in (SMALL, SMALL, WIDE):
        net(images(*size))
    assert len(lines) == 1
    assert (
        'at 2 x 3 x 32 x 32 runs without an engine (fp32: RuntimeError'
        in lines[0]
    )


def test_a_lower_dtype_returns_what_the_plain_pass_returns(net):
    wanted = net(images(*SMALL))
    _, lines = install(net, dtype='bf16')
    found = net(images(*SMALL))
    assert [x.dtype for x in found] == [torch.float32] * 2
    assert 0 < difference(list(found), list(wanted)) < 5e-2
    assert 'bf16: 500 ms' in lines[0]


def test_a_dtype_that_the_device_lacks_leaves_the_others(net, monkeypatch):
    def lacks(plain, images, levels, dtype):
        if dtype == torch.float16:
            raise RuntimeError('no kernel')
        return Recording(plain, images, levels, dtype)

    monkeypatch.setattr(engine_module, 'Recording', lacks)
    _, lines = install(net, dtype='fp16')
    wanted = net(images(*SMALL))
    assert difference(list(net(images(*SMALL))), list(wanted)) < 1e-5
    assert len(lines) == 1 and 'runs oneDNN' in lines[0]
    assert 'fp16: RuntimeError: no kernel' in lines[0]


def test_autocast_is_followed_and_may_change(net):
    install(net)
    for _ in range(2):
        with torch.autocast('cpu', torch.bfloat16):
            found = net(images(*SMALL))
            wanted = type(net).forward(net, images(*SMALL))
        assert [x.dtype for x in found] == [x.dtype for x in wanted]
        assert difference(list(found), list(wanted)) < 5e-2
        assert net(images(*SMALL))[0].dtype == torch.float32


def test_compiled_features_are_the_plain_ones(net):
    x = images(*SMALL)
    with torch.no_grad():
        levels = Levels.of(net(x))
        recording = Recording(net.forward, x, levels, torch.float32)
        variant = recording.compiled(x, None)
        other = images(*SMALL, seed=1)
        assert difference(variant.run(other), list(net(other))) < 1e-5


NO_COMPILER = """
import torch
from torch import nn
from mmfrozen.engine import FrozenEngine
net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()).requires_grad_(False)
FrozenEngine(net, lambda: True, compiled=True, tolerance=1e-5)
for _ in range(2):
    net(torch.randn(1, 3, 32, 32))
"""


def test_without_a_compiler_the_rest_goes_on(tmp_path):
    env = dict(
        os.environ,
        CXX='/nonexistent',
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path),
    )
    done = subprocess.run(
        [sys.executable, '-c', NO_COMPILER],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert 'compiled, fp32: ' in done.stdout
