"""A counter of the FLOPs of a training step, at 2 per multiply-add."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from .composite import run_in_parts
from .flops import Flops, sum_flops
from .formulas import (
    BACKWARD,
    FORWARD,
    MATMUL,
    does_arithmetic,
    elements,
    registered_with_torch,
)
from .mmcv_operators import MMCV, TORCHVISION, watch_operators

current_node = torch._C._current_autograd_node
next_sequence = torch._C._autograd._get_sequence_nr

#: Autograd nodes after which an operand still counts as a parameter: views and
#: autocast casts.
VIEWS_AND_CASTS = (
    'Alias',
    'Clone',
    'Expand',
    'Permute',
    'Reshape',
    'Select',
    'Slice',
    'Split',
    'Squeeze',
    'TBackward',
    'ToCopy',
    'Transpose',
    'Unsafe',
    'Unsqueeze',
    'View',
)
#: Nodes whose first operand is added, not multiplied.
WITH_BIAS = ('Addmm', 'Baddbmm', 'Addbmm', 'Addmv')


class _ThreadPosition:
    """Position of a thread in the forward pass, and the modules that own its
    autograd nodes."""

    def __init__(self) -> None:
        self.stack: list[tuple[str, bool]] = []
        #: First autograd sequence number of each owner, and the owners.
        self.starts: list[int] = []
        self.owners: list[str] = []

    def move(self, owner: str) -> None:
        self.starts.append(next_sequence())
        self.owners.append(owner)

    def owner(self, sequence: int) -> str | None:
        index = bisect_right(self.starts, sequence) - 1
        return self.owners[index] if index >= 0 else None


class FlopCounter(TorchDispatchMode):
    """Counter of the FLOPs of all operators run inside, by module.

        with FlopCounter(model) as counter:
            loss = model(images).sum()
            loss.backward()
        counter.total().backward_weight

    It counts the operators that ran, from the shapes of their arguments: a
    gradient that autograd does not compute is not counted. What
    ``torch.utils.flop_counter`` lacks: the split of the backward pass into
    gradients of activations and of weights, the modules that they belong to,
    the operators of mmcv, a list of uncounted operators, and correct weight
    gradients of grouped convolutions, which it overcounts by the number of
    groups.

    The backward pass is attributed to the module whose forward pass created
    the running autograd node. A convolution's gradients are told apart by its
    output mask. The node of a matrix product runs at most two products: if an
    operand was a parameter, or a view or autocast copy of one, one of them is
    its gradient; both have the same number of FLOPs. Attention between
    activations has no weight gradient.

    Args:
        model: The model whose module names are used; a distributed wrapper is
            removed. Without one, everything counts under ``''``.

    Attributes:
        so_far: FLOPs counted so far.
        uncounted: Number of calls, by name, of operators that do
            floating-point arithmetic and have no formula.
        uncounted_elements: Floating-point values that they returned, by name.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self._names: dict[int, str] = {}
        if model is not None:
            if 'DataParallel' in type(model).__name__:
                model = model.module
            for name, module in model.named_modules():
                self._names.setdefault(id(module), name)
        self._model = model  # keeps the ids valid
        self._is_inside_operator = False
        self._forward: Counter[str] = Counter()
        self._input: Counter[str] = Counter()
        self._weight: Counter[str] = Counter()
        self.so_far = 0
        self.uncounted: Counter[str] = Counter()
        self.uncounted_elements: Counter[str] = Counter()
        self._positions: defaultdict[int, _ThreadPosition] = defaultdict(
            _ThreadPosition
        )
        self._recorders: dict[Any, Callable[..., None] | None] = {}
        self._exits: list[ExitStack] = []

    def __enter__(self) -> FlopCounter:
        stack = ExitStack()
        stack.enter_context(self.watch())
        self._exits.append(stack)
        super().__enter__()
        return self

    @contextmanager
    def watch(self) -> Iterator[FlopCounter]:
        """Track modules and mmcv's operators only; the caller calls
        :meth:`record` for torch's operators."""
        with ExitStack() as stack:
            for handle in (
                register_module_forward_pre_hook(self._enter_module),
                register_module_forward_hook(
                    self._leave_module, always_call=True
                ),
            ):
                stack.callback(handle.remove)
            stack.enter_context(watch_operators(self._call_operator))
            yield self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._exits.pop().close()

    def flops(
        self, component: Callable[[str], str] | None = None
    ) -> dict[str, Flops]:
        """Return the FLOPs by module, in the order of the model.

        Args:
            component: Function from a module's name to the name under which it
                is counted; None for the innermost module itself. Operators
                outside of all modules count under ``''``.
        """
        parts: dict[str, Flops] = {}
        order = {name: i for i, name in enumerate(self._names.values())}
        seen = {*self._forward, *self._input, *self._weight}
        for name in sorted(seen, key=lambda n: order.get(n, -1)):
            flops = Flops(
                self._forward[name], self._input[name], self._weight[name]
            )
            key = component(name) if component else name
            parts[key] = parts.get(key, Flops()) + flops
        return parts

    def total(self) -> Flops:
        """Return the sum of all FLOPs."""
        return sum_flops(self.flops().values())

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = run_in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        self.record(func, args, out)
        return out

    def record(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        """Count one call of a torch operator.

        Args:
            func: The overload that was called.
            args: Its arguments in order.
            out: Its result.
        """
        if self._is_inside_operator:
            return
        try:
            recorder = self._recorders[func]
        except KeyError:
            recorder = self._recorders[func] = self._choose(func)
        if recorder is not None:
            recorder(func, args, out)

    def owner(self) -> tuple[str, bool]:
        """Return the module to which the running operator belongs, and whether
        it is part of the backward pass."""
        place = self._positions[threading.get_ident()]
        node = current_node()
        # a module entered within a backward pass is recomputed (checkpointing)
        if node is None or (place.stack and place.stack[-1][1]):
            return (place.stack[-1][0] if place.stack else ''), False
        # gradient accumulation into a parameter has a huge sequence number
        sequence = node._sequence_nr()
        if sequence >= 2**63:
            return '', True
        for each in (place, *self._positions.values()):
            name = each.owner(sequence)
            if name is not None:
                return name, True
        return '', True

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        name = self._names.get(id(module))
        place = self._positions[threading.get_ident()]
        if name is None:
            name = place.stack[-1][0] if place.stack else ''
        place.stack.append((name, current_node() is not None))
        place.move(name)

    def _leave_module(self, module: nn.Module, args: Any, out: Any) -> None:
        place = self._positions[threading.get_ident()]
        if place.stack:
            place.stack.pop()
        place.move(place.stack[-1][0] if place.stack else '')

    def _choose(self, func: Any) -> Callable[..., None] | None:
        """Return how to record the calls of an operator; None to ignore
        them."""
        packet = func.overloadpacket
        if packet in MATMUL:
            return self._record_product(MATMUL[packet])
        if packet in FORWARD:
            formula = FORWARD[packet]
            return lambda func, args, out: self._add(formula(args, out))
        if packet in BACKWARD:
            split = BACKWARD[packet]
            return lambda func, args, out: self._add(0, *split(args, out))
        own = TORCHVISION.get(func._schema.name)
        if own is not None:
            return lambda func, args, out: self._add_flops(own(args, out))
        theirs = registered_with_torch(packet)
        if theirs is not None:
            return self._record_product(theirs)
        if not func._schema.returns or getattr(func, 'is_view', False):
            return None
        return self._record_uncounted

    def _record_product(
        self, formula: Callable[[tuple[Any, ...], Any], int]
    ) -> Callable[..., None]:
        """Return a recorder of a matrix product, which in the backward pass
        counts as the gradient that it computes."""

        def record(func: Any, args: tuple[Any, ...], out: Any) -> None:
            flops = formula(args, out)
            self.so_far += flops
            name, is_backward = self.owner()
            if not is_backward:
                self._forward[name] += flops
                return
            share = weight_share(current_node())
            self._weight[name] += int(flops * share)
            self._input[name] += flops - int(flops * share)

        return record

    def _record_uncounted(
        self, func: Any, args: tuple[Any, ...], out: Any
    ) -> None:
        if does_arithmetic(func, out):
            name = func._schema.name.removeprefix('aten::')
            self.uncounted[name] += 1
            self.uncounted_elements[name] += elements(out)

    def _call_operator(
        self,
        name: str,
        operator: Callable[..., Any],
        *args: Any,
        **options: Any,
    ) -> Any:
        """Call an operator of mmcv, and count it with its own formula."""
        self._is_inside_operator = True
        try:
            out = operator(*args, **options)
        finally:
            self._is_inside_operator = False
        self._record_operator(name, args, options, out)
        return out

    def _record_operator(
        self,
        name: str,
        args: tuple[Any, ...],
        options: dict[str, Any],
        out: Any,
    ) -> None:
        self._add_flops(MMCV[name](args, options, out))

    def _add_flops(self, flops: Flops) -> None:
        self._add(flops.forward, flops.backward_input, flops.backward_weight)

    def _add(self, forward: int, inputs: int = 0, weights: int = 0) -> None:
        self.so_far += forward + inputs + weights
        name, is_backward = self.owner()
        # A forward operator inside a backward pass belongs to a custom
        # autograd function, whose products are gradients.
        if is_backward and forward:
            forward, inputs = 0, inputs + forward
        self._forward[name] += forward
        self._input[name] += inputs
        self._weight[name] += weights


def weight_share(node: Any) -> float:
    """Return the fraction of the products under an autograd node that are
    gradients of parameters: 0, 1/2 or 1."""
    operands = node.next_functions
    if node.name().startswith(WITH_BIAS):
        operands = operands[1:]
    kinds = [_is_parameter(fn) for fn, _ in operands if fn is not None]
    return sum(kinds) / len(kinds) if kinds else 0.0


def _is_parameter(node: Any) -> bool:
    """Return whether gradients that reach a node end in a parameter, through
    views and casts only."""
    while node is not None:
        if node.name().endswith('AccumulateGrad'):
            return isinstance(node.variable, nn.Parameter)
        if not node.name().startswith(VIEWS_AND_CASTS):
            return False
        node = node.next_functions[0][0]
    return False
