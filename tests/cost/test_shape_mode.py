"""A step on shapes is the step on data, less the data."""

import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmfrozen.cost import FlopCounter
from mmfrozen.cost.shape_mode import ShapeMode, ShapeTensor, drop_data, empty
from mmfrozen.cost.storage_tracker import SavedBytes, StorageTracker


def run(model, x):
    """FLOPs, uncounted calls, peak, timeline and saved bytes of a step."""
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        0.1,
        momentum=0.9,
        foreach=True,
    )
    present = [*model.parameters(), *model.buffers(), x]
    saved = SavedBytes(present)
    with StorageTracker() as tracker, FlopCounter(model) as counter:
        tracker.follow(present)
        with saved:
            loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
    calls = dict(counter.uncounted)
    return (
        counter.flops(),
        calls,
        tracker.peak_bytes,
        tracker.timeline,
        saved.total_bytes,
    )


@pytest.mark.parametrize('frozen', (0, 2, 4))
def test_step_without_data_costs_what_the_real_step_costs(frozen):
    model = torchvision.models.resnet18()
    for stage, child in enumerate(list(model.children())[4:], 1):
        child.requires_grad_(stage > frozen)
    for stem in list(model.children())[:4]:
        stem.requires_grad_(not frozen)
    real = run(copy.deepcopy(model), torch.randn(2, 3, 64, 64))
    drop_data(model)
    with ShapeMode():
        shapes = run(model, empty(2, 3, 64, 64))
    assert shapes == real


LAYERS = st.sampled_from(
    (
        lambda: nn.Conv2d(4, 4, 3, padding=1),
        lambda: nn.Conv2d(4, 4, 1, groups=2),
        lambda: nn.BatchNorm2d(4),
        lambda: nn.BatchNorm2d(4).eval(),
        lambda: nn.GroupNorm(2, 4),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.SiLU(),
        lambda: nn.Dropout(0.5),
        lambda: nn.MaxPool2d(3, 1, 1),
        lambda: nn.AdaptiveAvgPool2d(6),
        lambda: nn.Upsample(scale_factor=2, mode='bilinear'),
    )
)


@settings(deadline=None, max_examples=25)
@given(st.lists(LAYERS, min_size=1, max_size=5), st.integers(4, 9))
def test_any_stack_of_layers_gives_the_same_shapes_and_bytes(layers, size):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), *(make() for make in layers))
    real = run(copy.deepcopy(model), torch.randn(2, 4, size, size))
    drop_data(model)
    with ShapeMode():
        assert run(model, empty(2, 4, size, size)) == real


class ChannelsLast(nn.Module):
    """Leaves the channels last in memory, as ConvNeXt's norms do."""

    def forward(self, x):
        return x.contiguous(memory_format=torch.channels_last)


def test_convolutions_leave_the_channels_where_real_ones_do():
    model = nn.Sequential(ChannelsLast(), nn.Conv2d(4, 4, 3), ChannelsLast())
    real = run(copy.deepcopy(model), torch.randn(2, 4, 7, 7))
    drop_data(model)
    with ShapeMode():
        assert run(model, empty(2, 4, 7, 7)) == real


def test_ordinary_tensors_compute_and_mixed_ones_do_not():
    with ShapeMode():
        known = torch.arange(3.0) * 2
        mixed = known + empty(3)
        assert known.tolist() == [0, 2, 4]
        assert type(mixed) is ShapeTensor


def test_masks_of_known_numbers_select_as_many_as_they_should():
    mask = torch.tensor([True, False, True])
    with ShapeMode():
        predictions = empty(3, 4)
        chosen = predictions[mask]
        assert chosen.shape == (2, 4) and type(chosen) is ShapeTensor
        predictions[mask] = 0
        assert predictions[mask.nonzero().squeeze(1)].shape == (2, 4)


def test_constants_made_like_predictions_can_be_filled():
    with ShapeMode():
        target = torch.zeros_like(empty(5))
        target[torch.tensor([1, 3])] = 1
        assert empty(5, 2)[target > 0].shape == (2, 2)


def test_numbers_that_are_not_there_are_made_up_once():
    with ShapeMode():
        x = empty(4)
        assert x.tolist() == x.numpy().tolist() == x.tolist()
        assert 0 <= float(empty(1)) < 1
        assert bool((empty(2, 3) > 0).all())
        assert int(empty(1, dtype=torch.int64)) == 0
        assert (empty(3) > 0).nonzero().shape == (3, 1)


def test_views_share_their_storage():
    with ShapeMode(), StorageTracker() as tracker:
        x = empty(4, 6)
        tracker.follow([x])
        views = [x.view(24), x.t(), x[:, 2:], x.flatten().view(2, 12), x[0]]
        assert tracker.current_bytes == 4 * 24
        assert [tuple(v.shape) for v in views] == [
            (24,),
            (6, 4),
            (4, 4),
            (2, 12),
            (6,),
        ]


def test_shared_parameters_stay_shared_and_frozen_ones_frozen():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    drop_data(model)
    drop_data(model)  # as for a module that two others hold
    assert model[0].weight is model[1].weight
    assert isinstance(model[0].weight, nn.Parameter)
    assert [p.requires_grad for p in model.parameters()] == [True, False, True]


def test_autocast_casts_as_it_does_with_data():
    model = nn.Linear(4, 4)
    drop_data(model)
    with ShapeMode(), torch.autocast('cpu', torch.bfloat16):
        assert model(empty(2, 4)).dtype == torch.bfloat16


def test_shapes_outside_of_their_mode_say_so():
    with pytest.raises(RuntimeError, match='outside of a ShapeMode'):
        empty(2) + 1


def test_constants_have_data_but_for_gradients_and_optimizer_state():
    labels = empty(3, dtype=torch.long)
    with ShapeMode() as mode:
        assert torch.zeros_like(labels).tolist() == [0, 0, 0]
        with mode.without_constants():
            assert type(torch.zeros_like(labels)) is ShapeTensor
            assert type(torch.zeros(3)) is ShapeTensor
            with mode.without_constants():
                pass
            assert torch.zeros(()).item() == 0
            assert type(torch.zeros_like(labels)) is ShapeTensor
        assert type(torch.zeros_like(labels)) is torch.Tensor


def test_gradient_that_autograd_fills_in_has_no_data():
    given = []

    class Two(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, *grads):
            given.extend((*grads, torch.zeros(4, 5)))
            return grads[0]

    x = empty(4, 5).requires_grad_()
    with ShapeMode() as mode, mode.without_constants():
        Two.apply(x)[0].sum().backward()
    assert [tuple(g.shape) for g in given] == 3 * [(4, 5)]
    assert type(given[1]) is ShapeTensor
