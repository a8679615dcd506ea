"""Graph passes that make the operators of a recorded forward pass cheaper."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .fold import drop_unused
from .graph import is_call, put_constant

aten = torch.ops.aten
#: Operators whose result does not share memory with an input.
FRESH = (
    aten.convolution.default,
    aten.add.Tensor,
    aten.mul.Tensor,
    aten.relu.default,
    aten.silu.default,
)
IN_PLACE = {
    aten.relu.default: aten.relu_.default,
    aten.hardtanh.default: aten.hardtanh_.default,
    aten.leaky_relu.default: aten.leaky_relu_.default,
    aten.silu.default: aten.silu_.default,
    aten.hardswish.default: aten.hardswish_.default,
    aten.gelu.default: aten.gelu_.default,
    aten.add.Tensor: aten.add_.Tensor,
}
#: Activations that oneDNN can fuse with a convolution.
ONEDNN_UNARY = {
    aten.relu.default: 'relu',
    aten.hardtanh.default: 'hardtanh',
    aten.silu.default: 'swish',
    aten.hardswish.default: 'hardswish',
    aten.sigmoid.default: 'sigmoid',
}


def use_channels_last(module: fx.GraphModule) -> None:
    """Convert convolution weights to channels-last layout, in place."""
    for node in module.graph.nodes:
        if is_call(node, aten.convolution.default):
            _lay_out(module, node.args[1])
        elif is_call(node, aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # strides have changed
    module.recompile()


def _lay_out(module: fx.GraphModule, weight: Any) -> None:
    if weight.op != 'get_attr':
        return
    value = getattr(module, weight.target)
    if value.dim() == 4:
        new = value.contiguous(memory_format=torch.channels_last)
        module._parameters.pop(weight.target, None)
        vars(module).pop(weight.target, None)
        module.register_buffer(weight.target, new)


def write_in_place(module: fx.GraphModule) -> None:
    """Make activations and sums overwrite inputs that are not read again."""
    for node in module.graph.nodes:
        if not is_call(node, *IN_PLACE):
            continue
        source: Any = node.args[0]
        if (
            is_call(source, *FRESH, *IN_PLACE.values())
            and len(source.users) == 1
            and _is_like(source, node)
        ):
            node.target = IN_PLACE[node.target]
    module.recompile()


def fuse_on_cpu(module: fx.GraphModule) -> None:
    """Fuse shortcuts and activations into convolutions with oneDNN, in place.

    The weights of the convolutions are reordered to oneDNN's layout.
    """
    for node in list(module.graph.nodes):
        if is_call(node, aten.convolution.default):
            _fuse(module, node)
    module.graph.eliminate_dead_code()
    drop_unused(module)
    module.recompile()


def _fuse(module: fx.GraphModule, conv: Any) -> None:
    x, weight, bias, stride, padding, dilation, transposed = conv.args[:7]
    if transposed or weight.op != 'get_attr':
        return
    shape = (padding, stride, dilation, conv.args[8])
    last, shortcut = conv, None
    total = _only_user(conv, aten.add.Tensor)
    if total is not None and not total.kwargs:
        a, b = total.args
        other = b if a is conv else a
        if isinstance(other, fx.Node) and _is_like(other, conv):
            last, shortcut = total, other
    # oneDNN fuses only ReLU after a sum
    known = ONEDNN_UNARY if shortcut is None else (aten.relu.default,)
    act = _only_user(last, *known)
    name, numbers = None, []
    if act is not None:
        last, name = act, ONEDNN_UNARY[act.target]
        numbers = list(act.args[1:])
        if name == 'hardtanh':
            numbers += [-1, 1][len(numbers) :]  # default bounds
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        getattr(module, weight.target),
        *shape,
        list(x.meta['tensor_meta'].shape),
    )
    weight = put_constant(module, last, packed)
    pointwise = torch.ops.mkldnn._convolution_pointwise
    inputs = (weight, bias, *shape)
    args: tuple[Any, ...]
    if shortcut is None:
        args = (x, *inputs, name or 'none', numbers, '')
    else:
        args = (x, shortcut, *inputs, 'add', 1.0, name, numbers, '')
    with module.graph.inserting_before(last):
        new = module.graph.call_function(
            pointwise.binary if shortcut is not None else pointwise.default,
            args,
        )
    new.meta.update(last.meta)
    last.replace_all_uses_with(new)


def _only_user(node: Any, *targets: Any) -> Any:
    """Return the only user of a result if it calls one of these operators."""
    users = list(node.users)
    if len(users) == 1 and is_call(users[0], *targets):
        return users[0] if _is_like(node, users[0]) else None
    return None


def _is_like(a: Any, b: Any) -> bool:
    one, other = (x.meta.get('tensor_meta') for x in (a, b))
    return (
        one is not None  # constants have no metadata
        and other is not None
        and one.shape == other.shape
        and one.dtype == other.dtype
    )
