"""FLOP formulas of torch's operators, at 2 per multiply-add.

Operators that multiply and add are counted: convolution, matrix product,
attention, interpolation. Activations, norms, pooling, reductions and other
operators with a few operations per element are not; :func:`does_arithmetic`
distinguishes them from those that only move data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import (
    bmm_flop,
    conv_flop_count,
    mm_flop,
    sdpa_flop_count,
)

try:
    from torch.utils.flop_counter import flop_registry
except ImportError:  # torch 2.1
    from torch.utils.flop_counter import flop_mapping as flop_registry

aten = torch.ops.aten
Arguments = tuple[Any, ...]
#: Function from an operator's arguments and result to its FLOPs.
Formula = Callable[[Arguments, Any], int]
#: The same for a backward operator: FLOPs of the activations' and of the
#: parameters' gradients.
Split = Callable[[Arguments, Any], tuple[int, int]]

#: FLOPs per interpolated value: bilinear takes 4 multiply-adds.
BILINEAR = 8
BICUBIC = 32


def _conv(args: Arguments, out: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    if x.dim() < weight.dim():  # one image without its batch dimension
        x, out = x[None], out[None]
    return conv_flop_count(x.shape, weight.shape, out.shape, transposed)


def _conv_backward(args: Arguments, out: Any) -> tuple[int, int]:
    """Return the FLOPs of both gradients, each equal to the forward pass.

    torch's own formula counts the weight gradient of a grouped convolution as
    if it had one group: 32 times too much for 32 groups.
    """
    grad, x, weight, transposed = args[0], args[1], args[2], args[7]
    mask = args[10]
    if x.dim() < weight.dim():
        x, grad = x[None], grad[None]
    flops = conv_flop_count(x.shape, weight.shape, grad.shape, transposed)
    return flops * mask[0], flops * mask[1]


def _sdpa_backward(args: Arguments, out: Any) -> tuple[int, int]:
    """Return the FLOPs of recomputed scores and the gradients of all four
    operands: 5 products, where the forward pass has 2, as torch counts
    them."""
    (b, h, q, d), k, d_v = args[1].shape, args[2].shape[2], args[3].shape[3]
    return 2 * b * h * q * k * (3 * d + 2 * d_v), 0


def _native_mha(args: Arguments, out: Any) -> int:
    """Return the FLOPs of torch's fast path for attention without
    gradients."""
    query, key, embed = args[0], args[1], args[3]
    n, q, k = query.shape[0], query.shape[1], key.shape[1]
    projections = 2 * n * (q + 2 * k + q) * embed * embed
    return projections + 4 * n * q * k * embed


def _per_output(flops: int) -> Formula:
    return lambda args, out: flops * out.numel()


def _per_gradient(flops: int, gradients: int = 1) -> Split:
    """Return a formula for the backward pass of an interpolation."""
    return lambda args, out: (flops * gradients * args[0].numel(), 0)


def _operators(*names: str) -> Iterator[Any]:
    """Yield the named operators that this version of torch has."""
    for name in names:
        found = getattr(aten, name, None)
        if found is not None:
            yield found


#: Matrix products; in a backward pass they run under the autograd node of the
#: forward operator.
MATMUL: dict[Any, Formula] = {
    aten.mm: lambda a, out: mm_flop(a[0].shape, a[1].shape),
    aten.bmm: lambda a, out: bmm_flop(a[0].shape, a[1].shape),
    **dict.fromkeys(
        (aten.addmm, aten.addmm_),
        lambda a, out: mm_flop(a[1].shape, a[2].shape),
    ),
    **dict.fromkeys(
        (aten.baddbmm, aten.baddbmm_, aten.addbmm, aten.addbmm_),
        lambda a, out: bmm_flop(a[1].shape, a[2].shape),
    ),
    **dict.fromkeys(
        (aten.mv, aten.dot, aten.vdot), lambda a, out: 2 * a[0].numel()
    ),
    **dict.fromkeys(
        (aten.addmv, aten.addmv_), lambda a, out: 2 * a[1].numel()
    ),
}

FORWARD: dict[Any, Formula] = {
    **dict.fromkeys(
        _operators(
            'convolution',
            '_convolution',
            'convolution_overrideable',
            'cudnn_convolution',
        ),
        _conv,
    ),
    **dict.fromkeys(
        _operators(
            '_scaled_dot_product_flash_attention',
            '_scaled_dot_product_flash_attention_for_cpu',
            '_scaled_dot_product_efficient_attention',
            '_scaled_dot_product_cudnn_attention',
            '_scaled_dot_product_fused_attention_overrideable',
        ),
        lambda a, out: sdpa_flop_count(a[0].shape, a[1].shape, a[2].shape),
    ),
    **dict.fromkeys(_operators('_native_multi_head_attention'), _native_mha),
    **dict.fromkeys(
        _operators(
            'upsample_bilinear2d', '_upsample_bilinear2d_aa', 'grid_sampler_2d'
        ),
        _per_output(BILINEAR),
    ),
    **dict.fromkeys(
        _operators('upsample_bicubic2d', '_upsample_bicubic2d_aa'),
        _per_output(BICUBIC),
    ),
}

BACKWARD: dict[Any, Split] = {
    aten.convolution_backward: _conv_backward,
    **dict.fromkeys(
        _operators(
            '_scaled_dot_product_flash_attention_backward',
            '_scaled_dot_product_flash_attention_for_cpu_backward',
            '_scaled_dot_product_efficient_attention_backward',
            '_scaled_dot_product_cudnn_attention_backward',
        ),
        _sdpa_backward,
    ),
    **dict.fromkeys(
        _operators(
            'upsample_bilinear2d_backward', '_upsample_bilinear2d_aa_backward'
        ),
        _per_gradient(BILINEAR),
    ),
    **dict.fromkeys(
        _operators(
            'upsample_bicubic2d_backward', '_upsample_bicubic2d_aa_backward'
        ),
        _per_gradient(BICUBIC),
    ),
    # gradients of the values and of the two coordinates
    aten.grid_sampler_2d_backward: _per_gradient(BILINEAR, 3),
}

#: Operators that create or move floating-point values without arithmetic.
#: Views, and operators that return no floating-point values, need not be
#: listed.
_MOVES = """
_efficientzerotensor _local_scalar_dense _reshape_alias _reshape_copy
_to_copy _unsafe_index _unsafe_index_put _unsafe_view affine_grid_generator
alias arange as_strided_ as_strided_copy bernoulli bernoulli_ block_diag
cat chunk clone col2im constant_pad_nd copy copy_ detach detach_ diag
diag_embed diagonal_scatter empty empty_like empty_permuted empty_strided
eye fill fill_ flip full full_like gather im2col index index_copy
index_copy_ index_fill index_fill_ index_put index_put_ index_select lift
lift_fresh linspace logspace masked_fill masked_fill_ masked_scatter
masked_scatter_ masked_select narrow_copy new_empty new_empty_strided
new_full new_ones new_zeros nonzero normal_ ones ones_like permute_copy
pixel_shuffle pixel_unshuffle rand rand_like randint randn randn_like
random_ randperm reflection_pad2d repeat repeat_interleave
replication_pad2d resize_ resolve_conj resolve_neg roll scatter scatter_
select_backward select_scatter set_ slice_backward slice_scatter sort
split_with_sizes_copy stack take topk tril triu unfold_backward unfold_copy
uniform_ unique unique2 unique_dim unsafe_split upsample_nearest2d
view_copy where zero_ zeros zeros_like
"""
MOVES = frozenset(_MOVES.split())


def does_arithmetic(operator: Any, out: Any) -> bool:
    """Return whether an operator without a formula does floating-point
    arithmetic.

    Args:
        operator: The operator overload.
        out: Its result.
    """
    name = operator._schema.name.partition('::')[2]
    if name in MOVES or getattr(operator, 'is_view', False):
        return False
    results = out if isinstance(out, (tuple, list)) else (out,)
    return any(
        isinstance(x, Tensor) and x.is_floating_point() for x in results
    )


def registered_with_torch(operator: Any) -> Formula | None:
    """Return the formula registered with torch for a third-party operator;
    None if there is none.

    See ``torch.utils.flop_counter.register_flop_formula``.
    """
    formula = flop_registry.get(operator)
    if formula is None:
        return None
    return lambda args, out: int(formula(*args, out_val=out))


def elements(out: Any) -> int:
    """Return the number of floating-point values in an operator's result."""
    results = out if isinstance(out, (tuple, list)) else (out,)
    return sum(
        prod(x.shape)
        for x in results
        if isinstance(x, Tensor) and x.is_floating_point()
    )
