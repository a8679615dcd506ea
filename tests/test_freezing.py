"""Freezing in plain torch."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmfrozen.freezing import (
    LoadRecorder,
    changed_tensors,
    count_parameters,
    digest,
    find_faults,
    fingerprint,
    freeze,
    freeze_norm,
)


class Net(nn.Module):
    """A convolution, a norm and dropout; (N, 3, H, W) -> (N, 4, H, W)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)))


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    'wake',
    [
        lambda net: net.train(),
        lambda net: nn.Sequential(net).train(),
        lambda net: [m.train() for m in net.modules()],
        lambda net: net.apply(lambda m: m.train(True)),
    ],
    ids=['itself', 'its parent', 'each module', 'apply'],
)
def test_frozen_module_keeps_evaluating_whoever_calls_train(wake, images):
    net = freeze(Net())
    before, expected = fingerprint(net), net(images)
    wake(net)
    assert torch.equal(net(images), expected)
    assert changed_tensors(before, fingerprint(net)) == []
    assert find_faults(net) == []


def test_train_and_eval_of_a_frozen_module_return_it():
    net = freeze(Net())
    assert net.train() is net and net.eval() is net


@pytest.mark.parametrize(
    'clone', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_of_a_frozen_module_are_frozen_on_their_own(clone):
    net = freeze(Net())
    twin = clone(net)
    twin.train()
    assert find_faults(twin) == []
    twin.conv.train()
    assert not twin.conv.training
    assert twin.conv.train.args[0] is twin.conv


def test_frozen_state_dict_keys_and_class_are_those_of_the_module():
    net = freeze(Net())
    assert type(net) is Net
    assert net.state_dict().keys() == Net().state_dict().keys()


def test_freeze_norm_fixes_statistics_and_lets_scale_and_shift_train(images):
    net = freeze_norm(Net())
    mean = net.norm.running_mean.clone()
    net.train()
    net(images).sum().backward()
    assert torch.equal(net.norm.running_mean, mean)
    assert net.norm.weight.grad is not None
    assert net.drop.training


def test_every_fault_is_found_and_names_its_first_place():
    net = Net().train()
    groups = [dict(params=[net.norm.bias])]
    assert find_faults(net, groups) == [
        '4 parameters require grad, the first is conv.weight',
        '1 parameters are in the optimizer, the first is norm.bias',
        '1 layers with running statistics are in training mode, '
        'the first is norm',
        '1 dropout or stochastic depth layers are on, the first is drop',
    ]


def test_counts_add_up():
    net = Net()
    freeze(net.conv)
    counts = count_parameters(net)
    assert (counts.total, counts.trainable, counts.frozen) == (24, 8, 16)


def test_fingerprint_sees_one_changed_bit_in_parameters_and_buffers():
    net = Net()
    before = fingerprint(net)
    with torch.no_grad():
        net.norm.running_var[2] = torch.nextafter(
            net.norm.running_var[2], torch.tensor(2.0)
        )
    net.norm.num_batches_tracked += 1
    assert changed_tensors(before, fingerprint(net)) == [
        'norm.num_batches_tracked',
        'norm.running_var',
    ]


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.int64, torch.bool]
)
def test_digest_takes_any_dtype_shape_and_layout(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    assert digest(tensor.t()) == digest(tensor.t().contiguous())
    assert digest(tensor[0, 0]) == digest(tensor[:1, :1])
    assert digest(tensor) != digest(1 - tensor.float())


def test_recorder_names_what_no_state_dict_has_filled():
    net = nn.Sequential(Net(), Net())
    state = net.state_dict()
    del state['0.conv.bias'], state['0.norm.num_batches_tracked']
    state['1.norm.weight'] = torch.ones(5)  # loaders skip another shape
    recorder = LoadRecorder(net)
    with pytest.raises(RuntimeError):
        net.load_state_dict(state)
    assert recorder.stop() == ['0.conv.bias', '1.norm.weight']
    net.load_state_dict(net.state_dict())
    assert len(recorder.stop()) == 2, 'it goes on recording after stop()'
