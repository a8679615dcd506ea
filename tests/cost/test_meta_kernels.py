"""Kernels for the meta device return what those for data return."""

from itertools import product

import pytest
import torch
from torch.utils._pytree import tree_map

from mmfrozen.cost.meta_kernels import batch_norm, batch_norm_backward

aten = torch.ops.aten
INPUTS = {
    'contiguous': torch.randn(2, 4, 5, 6),
    'one number a channel': torch.randn(2, 4, 1, 1),
    'channels last': torch.randn(2, 4, 5, 6).contiguous(
        memory_format=torch.channels_last
    ),
    'transposed': torch.randn(2, 4, 6, 5).transpose(2, 3),
    'part of another': torch.randn(2, 8, 5, 6)[:, ::2],
    'sequences': torch.randn(2, 5, 4).transpose(1, 2),
    'vectors': torch.randn(2, 4),
    'half': torch.randn(2, 4, 5, 6).bfloat16(),
    'double': torch.randn(2, 4, 5, 6).double(),
}


def on_meta(values):
    return tree_map(
        lambda x: x.to('meta') if isinstance(x, torch.Tensor) else x, values
    )


def shapes(values):
    return [x if x is None else (x.shape, x.stride(), x.dtype) for x in values]


@pytest.mark.parametrize('name', INPUTS)
def test_batch_norm_returns_what_the_cpu_returns(name):
    x = INPUTS[name]
    dtype = torch.promote_types(x.dtype, torch.float32)
    mean, var = torch.zeros(4, dtype=dtype), torch.ones(4, dtype=dtype)
    for affine, training in product((True, False), repeat=2):
        weight = torch.ones(4, dtype=dtype) if affine else None
        args = (x, weight, weight, mean, var, training, 0.1, 1e-5)
        real = aten.native_batch_norm(*args)
        assert shapes(batch_norm(*on_meta(args))) == shapes(real)
        for wanted in product((True, False), repeat=3):
            args = (
                real[0], x, weight, mean, var, *real[1:], training, 1e-5,
                list(wanted),
            )  # fmt: skip
            gradients = aten.native_batch_norm_backward(*args)
            ours = batch_norm_backward(*on_meta(args))
            assert shapes(ours) == shapes(gradients)
