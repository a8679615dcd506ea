"""Measurement of how far tensors moved, stage by stage; needs torch only."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..run_files import StageDrift

ALL = 'all'
STATISTIC = re.compile(r'\b(running_(mean|var)|num_batches_tracked)$')
# layer1.0.conv1.weight -> layer1, model.blocks.2.0.bn1.bias -> blocks.2
STAGE = re.compile(r'(?:model\.)*([a-zA-Z_]+(?:\d+|\.\d+)?)')


def stage_of(name: str) -> str:
    """Return the stage of a tensor, guessed from its state-dict key.

    It is used for backbones whose stages are not listed in :mod:`.stages`.
    """
    match = STAGE.match(name)
    return match[1] if match else name


def measure(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    name_stage: Callable[[str], str] | None = None,
) -> dict[str, StageDrift]:
    """Measure the drift of each stage.

    Args:
        before: Tensors by name, on the CPU.
        after: Tensors of the same names, on any device; they are copied one at
            a time.
        name_stage: Result of :func:`~.components.backbone_namer`; None for
            :func:`stage_of`.

    Returns:
        Drift by stage in the order of ``before``, then of all tensors.
    """
    name_stage = name_stage or stage_of
    sums: dict[str, _Sums] = {}
    total = sums[ALL] = _Sums()
    for name, old in before.items():
        new = after[name].detach().cpu()
        stage = sums.setdefault(name_stage(name), _Sums())
        for part in (stage, total):
            part.num_tensors += 1
        if not same_bits(old, new):
            for part in (stage, total):
                part.num_changed += 1
        if not old.is_floating_point():
            continue
        terms = _terms(old, new)
        kind = 'statistics' if STATISTIC.search(name) else 'parameters'
        for part in (stage, total):
            getattr(part, kind).add_(terms)
    sums[ALL] = sums.pop(ALL)  # last
    return {stage: part.drift() for stage, part in sums.items()}


def changed(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> list[str]:
    """Return the names of tensors whose bits differ, in the order of
    ``before``."""
    return [n for n, old in before.items() if not same_bits(old, after[n])]


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are bitwise equal: -0.0 differs from 0.0, and
    NaN equals itself."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(_bytes(a), _bytes(b))
    )


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _terms(old: Tensor, new: Tensor) -> Tensor:
    """Return the squared norms of change, old and new, and the dot product of
    old and new."""
    a, b = old.reshape(-1).double(), new.reshape(-1).double()
    move = b - a
    return torch.stack([move @ move, a @ a, b @ b, a @ b])


def _no_terms() -> Tensor:
    return torch.zeros(4, dtype=torch.float64)


@dataclass
class _Sums:
    num_tensors: int = 0
    num_changed: int = 0
    parameters: Tensor = field(default_factory=_no_terms)
    statistics: Tensor = field(default_factory=_no_terms)

    def drift(self) -> StageDrift:
        _, old, new, product = self.parameters.tolist()
        return StageDrift(
            self.num_tensors,
            self.num_changed,
            relative_l2=_relative(self.parameters),
            cosine=_divide(product, math.sqrt(old * new)),  # 1.0 if equal
            statistics_relative_l2=_relative(self.statistics),
        )


def _relative(terms: Tensor) -> float | None:
    move, old = terms.sqrt().tolist()[:2]
    return _divide(move, old)


def _divide(a: float, b: float) -> float | None:
    """Return the ratio; None if it is not finite, as JSON cannot hold it."""
    ratio = a / b if b else math.nan
    return ratio if math.isfinite(ratio) else None
