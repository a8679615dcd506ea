"""Variants of the forward pass of a frozen backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from .autocast import autocast_dtype
from .fold import fold
from .graph import graph_key, record
from .lower import fuse_on_cpu, use_channels_last, write_in_place
from .measure import Variant

DTYPES = {
    'fp32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
#: Maximum relative error in the 2-norm, by dtype.
TOLERANCES = {
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}


@dataclass
class Levels:
    """Structure of the outputs of a backbone.

    Attributes:
        spec: Structure of the tuple, list or dict that holds the levels.
        dtypes: Dtype of each level.
        contiguous: Whether each level is contiguous.
    """

    spec: TreeSpec
    dtypes: list[torch.dtype]
    contiguous: list[bool]

    @classmethod
    def of(cls, outputs: Any) -> Levels:
        """Describe the outputs of a backbone.

        Raises:
            ValueError: If they contain anything but tensors.
        """
        leaves, spec = tree_flatten(outputs)
        if not all(isinstance(x, Tensor) for x in leaves):
            raise ValueError(
                'A backbone must return tensors, got '
                f'{[type(x).__name__ for x in leaves]}.'
            )
        return cls(
            spec,
            [x.dtype for x in leaves],
            [x.is_contiguous() for x in leaves],
        )

    def wrap(self, levels: list[Tensor]) -> Any:
        """Restore the structure of the backbone's outputs."""
        return tree_unflatten(levels, self.spec)


class GraphRun:
    """A callable that runs a recorded forward pass.

    Args:
        module: Result of ``graph.record``, or a compiled version of it.
        levels: Structure of the results. Levels are made contiguous if the
            eager ones are, whatever layout the graph uses.
        dtype: Dtype of the recording.
        channels_last: Whether images are converted to channels-last.
    """

    def __init__(
        self,
        module: Callable[[Tensor], list[Tensor]],
        levels: Levels,
        dtype: torch.dtype,
        channels_last: bool,
    ) -> None:
        self.levels, self.dtype = levels, dtype
        self._channels_last, self._module = channels_last, module

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Compute the levels of images.

        Autocast is off, as its casts are part of the graph.
        """
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        kind = images.device.type
        with torch.no_grad(), torch.autocast(kind, enabled=False):
            found = self._module(images)
        return [
            x.contiguous() if wanted else x
            for x, wanted in zip(found, self.levels.contiguous, strict=True)
        ]


class Recording:
    """A forward pass recorded in one dtype.

    Args:
        eager: The backbone's own forward.
        images: (N, 3, H, W).
        levels: Structure of the outputs of ``eager``.
        dtype: fp32, or the autocast dtype of the recording.
    """

    def __init__(
        self,
        eager: Callable[[Tensor], Any],
        images: Tensor,
        levels: Levels,
        dtype: torch.dtype,
    ) -> None:
        autocast = (
            torch.autocast(images.device.type, enabled=False)
            if dtype == torch.float32
            else torch.autocast(images.device.type, dtype=dtype)
        )

        def forward(images: Tensor) -> list[Tensor]:
            with autocast:
                found = tree_flatten(eager(images))[0]
            return [
                x.to(wanted)
                for x, wanted in zip(found, levels.dtypes, strict=True)
            ]

        self.dtype, self._levels = dtype, levels
        self._module = record(forward, images)
        #: Equal for two image sizes if the graph serves both.
        self.graph_key = graph_key(self._module)
        fold(self._module)

    def variants(
        self, images: Tensor, tolerance: float | None
    ) -> Iterator[Variant]:
        """Yield the variants to try on the device of the images."""
        for channels_last in (True, False):
            kind, module = 'folded', None
            if images.device.type == 'cpu':
                try:
                    module = self._lowered(
                        channels_last, fuse_on_cpu, write_in_place
                    )
                    kind = 'oneDNN'
                except Exception:  # not available for this torch or dtype
                    module = None
            module = module or self._lowered(channels_last, write_in_place)
            layout = 'channels_last' if channels_last else 'contiguous'
            name = f'{kind}, {layout}'
            yield self._variant(name, module, images, channels_last, tolerance)

    def compiled(self, images: Tensor, tolerance: float | None) -> Variant:
        """Return the compiled variant, with weights as constants."""
        module = self._lowered(True)
        call = torch.compile(module, dynamic=False, options={'freezing': True})
        return self._variant('compiled', call, images, True, tolerance)

    def _variant(
        self,
        name: str,
        module: Callable[[Tensor], list[Tensor]],
        images: Tensor,
        channels_last: bool,
        tolerance: float | None,
    ) -> Variant:
        if tolerance is None:
            tolerance = _tolerance(images, self.dtype)
        run = GraphRun(module, self._levels, self.dtype, channels_last)
        return Variant(f'{name}, {NAMES[self.dtype]}', run, tolerance)

    def _lowered(
        self,
        channels_last: bool,
        *changes: Callable[[fx.GraphModule], None],
    ) -> fx.GraphModule:
        graph = copy.deepcopy(self._module.graph)
        module = fx.GraphModule(self._module, graph)
        if channels_last:
            use_channels_last(module)
        for change in changes:
            change(module)
        return module


def _tolerance(images: Tensor, dtype: torch.dtype) -> float:
    """Return the maximum relative difference that rounding explains.

    It allows for the rounding of both the recorded and the eager dtype.
    """
    eager = autocast_dtype(images.device.type) or torch.float32
    if images.is_cuda and torch.backends.cudnn.allow_tf32:
        eager = torch.float16 if eager == torch.float32 else eager
    return max(TOLERANCES[dtype], TOLERANCES.get(eager, 0.0))
