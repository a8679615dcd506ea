"""Record a forward pass as a graph of operators; needs only torch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx


def record(
    forward: Callable[[Tensor], list[Tensor]], images: Tensor
) -> fx.GraphModule:
    """Record the operators that a forward pass executes.

    The graph contains no modules, hooks or Python control flow; no operator
    writes to its inputs; casts of autocast are explicit operators. Parameters
    and buffers are attributes of the result and share memory with the
    module's.

    Args:
        forward: Function of images that returns the levels. It runs once.
        images: (N, 3, H, W). Values that depend on their size may be constants
            in the graph, see :func:`graph_key`.

    Returns:
        A module that takes images and returns the levels.

    Raises:
        ValueError: If the forward pass draws random numbers.
        RuntimeError: If the forward pass depends on the values of the images;
            raised by torch.
    """

    with torch.no_grad():
        module = make_fx(functionalize(forward, remove='mutations'))(images)
    module.graph.eliminate_dead_code()
    for node in module.graph.nodes:
        # attention draws no random numbers in evaluation mode
        if torch.Tag.nondeterministic_seeded in getattr(
            node.target, 'tags', ()
        ) and 'dot_product' not in str(node.target):
            raise ValueError(
                'A frozen backbone must be deterministic, got random numbers '
                f'from {node.target}. Remove the operation that draws them.'
            )
    return module


def graph_key(module: fx.GraphModule) -> list[Hashable]:
    """Return the graph's operators, arguments and weight addresses.

    If recordings of two image sizes have equal keys, the graph depends on no
    size and serves all of them.
    """
    numbers: dict[fx.Node, int] = {}
    words: list[Hashable] = []
    for number, node in enumerate(module.graph.nodes):
        numbers[node] = number
        if node.op == 'get_attr':
            words.append(getattr(module, node.target).data_ptr())
        else:
            arguments = fx.node.map_arg(
                (node.args, node.kwargs), lambda n: f'%{numbers[n]}'
            )
            words.append((str(node.target), repr(arguments)))
    return words


def put_constant(
    module: fx.GraphModule, before: fx.Node, value: Tensor
) -> fx.Node:
    """Add a tensor as a buffer, and return the node that reads it."""
    name = f'_folded_{len(module.graph.nodes)}'
    while hasattr(module, name):
        name += '_'
    module.register_buffer(name, value)
    with module.graph.inserting_before(before):
        return module.graph.get_attr(name)


def is_call(node: Any, *targets: Any) -> bool:
    """Return whether a node calls one of these operators."""
    return (
        isinstance(node, fx.Node)
        and node.op == 'call_function'
        and node.target in targets
    )


def first_output(node: fx.Node) -> fx.Node | None:
    """Return the reader of an operator's first output, if it is the only one.

    Return None if another output is read, or the first one several times.
    """
    users = list(node.users)
    if len(users) == 1 and is_call(users[0], operator.getitem):
        return users[0] if users[0].args[1] == 0 else None
    return None
