"""How far a forward pass gets."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmfrozen.tracing.progress import Progress


class Block(nn.Module):
    def __init__(self, fails=False):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.fails = fails

    def forward(self, x):
        x = self.first(x)
        if self.fails:
            raise RuntimeError('no luck')
        return {'out': (self.second(x),)}


class Watched(TorchDispatchMode):
    def __init__(self, progress):
        super().__init__()
        self.progress = progress

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.progress.record(func, args, out)
        return out


def run(model):
    progress = Progress()
    with progress.watch(), Watched(progress):
        try:
            x = torch.ones(1, 2)
            for block in model:
                (x,) = block(x)['out']
        except RuntimeError as error:
            progress.failure = str(error)
        loss = progress.loss()
    return progress, loss


def name(path):
    return path.partition('.')[0]


def test_what_ran_before_a_failure_goes_backward():
    model = nn.ModuleList([Block(), Block(fails=True), Block()])
    progress, loss = run(model)
    assert progress.left_out(model, name) == ['part of 1', '2', 'losses']
    loss.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None}
    ran = ('0.first', '0.second', '1.first')
    assert reached == {f'{n}.{p}' for n in ran for p in ('weight', 'bias')}


def test_what_is_frozen_has_nothing_to_go_backward_from():
    model = nn.ModuleList([Block(), Block(fails=True)]).requires_grad_(False)
    progress, loss = run(model)
    assert loss is None
    assert progress.left_out(model, name) == ['part of 1', 'losses']


def test_a_pass_that_ends_leaves_nothing_out():
    model = nn.ModuleList([Block(), Block()])
    progress, _ = run(model)
    assert progress.left_out(model, name) == []
