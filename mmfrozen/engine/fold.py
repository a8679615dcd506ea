"""Constant folding: compute once whatever depends on weights only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .graph import first_output, is_call, put_constant

aten = torch.ops.aten
#: Norms that use running statistics, and the position of eps among the
#: arguments.
NORMS = {
    aten.native_batch_norm.default: 7,
    aten.cudnn_batch_norm.default: 7,
    aten.miopen_batch_norm.default: 7,
    aten._native_batch_norm_legit_no_training.default: 6,
}
#: Maximum elements of a folded constant; larger ones, such as tables that grow
#: with the square of the image, are computed in every step.
LARGEST = 2**26


def fold(module: fx.GraphModule) -> None:
    """Replace operators on weights by their results, in place.

    Examples are casts of weights under autocast, weight standardisation,
    position tables and attention masks. Norms that use running statistics
    after a convolution are folded into its weights (in double precision,
    before the cast).

    Args:
        module: Result of ``graph.record``. Weights that are used unchanged
            still share memory with the recorded module's.
    """
    _Folder(module).run()
    module.graph.eliminate_dead_code()
    drop_unused(module)
    module.recompile()


def drop_unused(module: fx.GraphModule) -> None:
    """Delete tensor attributes that no node reads."""
    used = {n.target for n in module.graph.nodes if n.op == 'get_attr'}
    for names in (module._parameters, module._buffers, vars(module)):
        for name in list(names):
            if name not in used and isinstance(names[name], Tensor):
                del names[name]


class _Folder:
    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        #: Results of nodes that depend on weights only.
        self._values: dict[Any, Any] = {}
        #: Values before the cast, of nodes that were cast.
        self._uncast: dict[Any, Tensor] = {}

    def run(self) -> None:
        for node in list(self._module.graph.nodes):
            if node.op == 'get_attr':
                self._values[node] = getattr(self._module, node.target)
            elif node.op == 'call_function' and not self._evaluate(node):
                self._fold_norm(node)
        for node, value in self._values.items():
            if node.op == 'get_attr' or not isinstance(value, Tensor):
                continue
            if any(user not in self._values for user in node.users):
                new = put_constant(self._module, node, value)
                node.replace_all_uses_with(new)

    def _evaluate(self, node: Any) -> bool:
        if any(n not in self._values for n in node.all_input_nodes):
            return False
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), self._values.__getitem__
        )
        value = node.target(*args, **kwargs)
        if isinstance(value, Tensor) and value.numel() > LARGEST:
            return False
        self._values[node] = value
        if is_call(node, aten._to_copy.default):
            self._uncast[node] = self._uncast.get(node.args[0], args[0])
        return True

    def _fold_norm(self, node: Any) -> None:
        """Fold a node into the weights of the convolution before it.

        The node is a norm, product or sum that scales or shifts channels.
        """
        conv: Any = node.args[0] if node.args else None
        out = first_output(node) if is_call(node, *NORMS) else node
        if out is None or not self._is_foldable(conv):
            return
        if out.meta['tensor_meta'].dtype != conv.meta['tensor_meta'].dtype:
            return
        found = self._scale_and_shift(node, len(self._values[conv.args[1]]))
        if found is None:
            return
        scale, shift = found
        weight, bias = conv.args[1:3]
        dtype = self._values[weight].dtype
        if bias is not None:
            shift = shift + scale * self._precise(bias)
        scaled = scale.reshape(-1, 1, 1, 1) * self._precise(weight)
        for position, value in ((1, scaled), (2, shift)):
            new = put_constant(self._module, conv, value.to(dtype))
            self._values[new], self._uncast[new] = value.to(dtype), value
            conv.update_arg(position, new)
        out.replace_all_uses_with(conv)

    def _is_foldable(self, conv: Any) -> bool:
        return (
            is_call(conv, aten.convolution.default)
            and len(conv.users) == 1
            and not conv.args[6]  # transposed
            and conv.args[1] in self._values
            and (conv.args[2] is None or conv.args[2] in self._values)
            and self._values[conv.args[1]].dim() == 4
        )

    def _scale_and_shift(
        self, node: Any, channels: int
    ) -> tuple[Tensor, Tensor] | None:
        """Return scale and shift, (channels,) each, of a norm, product or sum.

        Return None if the node cannot be folded.
        """
        is_norm = is_call(node, *NORMS)
        if not is_norm and not is_call(node, aten.mul.Tensor, aten.add.Tensor):
            return None
        others = node.args[1:5] if is_norm else node.args[1:2]
        if any(o is not None and o not in self._values for o in others):
            return None
        if is_norm:
            return self._of_norm(node)
        number = self._precise(others[0])
        if number.shape[-3:] != (channels, 1, 1) or node.kwargs:
            return None
        number = number.reshape(-1)
        if is_call(node, aten.mul.Tensor):
            return number, torch.zeros_like(number)
        return torch.ones_like(number), number

    def _of_norm(self, node: Any) -> tuple[Tensor, Tensor] | None:
        position = NORMS[node.target]
        if position == 7 and node.args[5]:
            return None  # the norm uses batch statistics
        weight, bias, mean, var = (
            None if o is None else self._precise(o) for o in node.args[1:5]
        )
        if mean is None or var is None:
            return None
        scale = (var + node.args[position]).rsqrt()
        if weight is not None:
            scale = scale * weight
        shift = -mean * scale
        return scale, shift if bias is None else shift + bias

    def _precise(self, node: Any) -> Tensor:
        tensor: Tensor = self._uncast.get(node, self._values[node])
        return tensor.double()
