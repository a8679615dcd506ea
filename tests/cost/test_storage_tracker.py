"""Bytes against torch's own allocator and hooks."""

import pytest
import torch
import torchvision
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mmfrozen.cost.storage_tracker import SavedBytes, StorageTracker


def step(model, optimizer, x):
    loss = model(x).pow(2).mean()
    loss.backward()
    optimizer.step()


def allocator_peak(function):
    """The most bytes that torch's CPU allocator had given out at a time."""
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        function()
    events = sorted(
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == '[memory]'
    )
    current = peak = 0
    for _, nbytes in events:
        current += nbytes
        peak = max(peak, current)
    return peak


@pytest.mark.parametrize('frozen', (False, True))
def test_peak_is_that_of_the_allocator(frozen):
    model = torchvision.models.resnet18()
    if frozen:
        model.requires_grad_(False)
        model.layer4.requires_grad_(True)
        model.fc.requires_grad_(True)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, momentum=0.9, foreach=True
    )
    x = torch.randn(4, 3, 128, 128)
    step(model, optimizer, x)
    optimizer.zero_grad()
    present = [*model.parameters(), *model.buffers(), x]
    present += [s['momentum_buffer'] for s in optimizer.state.values() if s]
    with StorageTracker() as tracker:
        tracker.follow(present)
        static = tracker.current_bytes
        step(model, optimizer, x)
    optimizer.zero_grad()
    real = static + allocator_peak(lambda: step(model, optimizer, x))
    assert tracker.peak_bytes == pytest.approx(real, rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_peak_is_that_of_a_gpu():
    model = torchvision.models.resnet18().cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x = torch.randn(16, 3, 224, 224, device='cuda')
    step(model, optimizer, x)
    optimizer.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    with StorageTracker() as tracker:
        tracker.follow([*model.parameters(), *model.buffers(), x])
        tracker.follow(s['momentum_buffer'] for s in optimizer.state.values())
        step(model, optimizer, x)
    real = torch.cuda.max_memory_allocated()
    assert tracker.peak_bytes == pytest.approx(real, rel=0.1)


def test_tracker_forgets_what_is_freed_and_counts_views_once():
    with StorageTracker() as tracker:
        a = torch.zeros(1000)
        b = a.view(10, 100)
        assert tracker.current_bytes == 4000
        del a
        assert tracker.current_bytes == 4000
        del b
        assert tracker.current_bytes == 0
    assert tracker.peak_bytes == 4000
    assert tracker.timeline[0] == 4000


def test_parts_of_the_peak_have_the_labels_of_their_birth():
    with StorageTracker() as tracker:
        tracker.label = 'first'
        a = torch.zeros(10)
        tracker.label = 'second'
        b = torch.zeros(20)
        del a, b
        torch.zeros(5)
    assert tracker.peak_parts == {'first': 40, 'second': 80}


def test_saved_bytes_are_what_autograd_keeps():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    x = torch.randn(2, 3, 8, 8)
    with SavedBytes([*model.parameters(), x]) as saved:
        model(x)
    # ReLU's result serves it and the convolution behind it
    assert saved.total_bytes == 4 * 2 * 4 * 8 * 8


def test_saved_bytes_count_the_images_unless_they_are_left_out():
    model = nn.Conv2d(3, 4, 1)
    x = torch.randn(2, 3, 8, 8)
    with SavedBytes(model.parameters(), lambda: 'conv') as saved:
        model(x)
    assert saved.by_owner == {'conv': x.nbytes}


def test_nothing_is_saved_for_a_frozen_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU())
    model.requires_grad_(False)
    with SavedBytes() as saved:
        model(torch.randn(2, 3, 8, 8))
    assert saved.total_bytes == 0
