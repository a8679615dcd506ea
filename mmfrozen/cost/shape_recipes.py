"""Cached recipes that create the outputs of operators from their shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .shape_tensor import ShapeTensor


def describe(
    func: Any, args: Any, kwargs: Any
) -> tuple[tuple[Any, ...], list[Tensor]]:
    """Return a key of everything that the result shapes of a call depend on.

    Returns:
        A key, and the tensors among the arguments in order.
    """
    key: list[Any] = [func]
    tensors: list[Tensor] = []
    _describe(args, key, tensors)
    if kwargs:
        for name, value in kwargs.items():
            key.append(name)
            _describe((value,), key, tensors)
    return tuple(key), tensors


def _describe(values: Any, key: list[Any], tensors: list[Tensor]) -> None:
    for value in values:
        kind = type(value)
        if kind is ShapeTensor or kind is Tensor or kind is nn.Parameter:
            tensors.append(value)
            key += (
                value.shape,
                value.stride(),
                value.storage_offset(),
                value.dtype,
            )
        elif kind is list or kind is tuple:
            key.append(len(value))
            _describe(value, key, tensors)
        else:  # the type too, as 1 == 1.0 == True
            key += (kind, value)


class _New:
    """Recipe of a result with its own storage."""

    def __init__(self, like: Tensor) -> None:
        self.size, self.stride = like.shape, like.stride()
        self.dtype = like.dtype

    def make(self, tensors: list[Tensor]) -> Tensor:
        return ShapeTensor(
            torch.empty_strided(
                self.size, self.stride, dtype=self.dtype, device='meta'
            )
        )


class _View:
    """Recipe of a result that is an argument, or shares its storage."""

    def __init__(self, like: Tensor, source: int, is_source: bool) -> None:
        self.size, self.stride = like.shape, like.stride()
        self.offset, self.dtype = like.storage_offset(), like.dtype
        self.source, self.is_source = source, is_source

    def make(self, tensors: list[Tensor]) -> Tensor:
        source = tensors[self.source]
        if self.is_source:
            return source
        if type(source) is not ShapeTensor:
            return source.as_strided(self.size, self.stride)
        meta = source.meta
        if meta.dtype != self.dtype:
            meta = meta.view(self.dtype)
        return ShapeTensor(
            meta.as_strided(self.size, self.stride, self.offset)
        )


def is_dense(out: Any) -> bool:
    """Return whether all results have strides."""
    outs = out if isinstance(out, (list, tuple)) else (out,)
    return all(
        x.layout is torch.strided for x in outs if isinstance(x, Tensor)
    )


def make_recipe(out: Any, sources: list[Tensor]) -> Any:
    """Return a recipe of the results: their shapes, and the argument with
    which each shares its storage."""
    storages: dict[int, int] = {}
    for i, source in enumerate(sources):
        storages.setdefault(source.untyped_storage()._cdata, i)

    def note(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        source = storages.get(x.untyped_storage()._cdata)
        if source is None:
            return _New(x)
        return _View(x, source, x is sources[source])

    return tree_map(note, out)


def follow_recipe(recipe: Any, tensors: list[Tensor]) -> Any:
    """Create the results of a call with other tensors of the same shapes."""
    if isinstance(recipe, (_New, _View)):
        return recipe.make(tensors)
    if isinstance(recipe, (list, tuple)):
        made = [follow_recipe(item, tensors) for item in recipe]
        return type(recipe)(made)
    return recipe
