"""This module converts feature maps to and from the dtypes in which a cache
stores them, with 32, 16 or 8 bits per number."""

from __future__ import annotations

import torch
from torch import Tensor

#: Dtype on disk by the name of the storage.
STORAGES = {
    'fp32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
    'int8': torch.uint8,
}


def amount(nbytes: float) -> str:
    """Return a number of bytes as text in a decimal unit: 62.9 MB."""
    for unit in ('B', 'kB', 'MB', 'GB'):
        if nbytes < 999.5:
            return f'{nbytes:.3g} {unit}'
        nbytes /= 1000
    return f'{nbytes:,.3g} TB'


def pack(level: Tensor, storage: str) -> list[Tensor]:
    """Convert the feature maps of one level to their storage dtype.

    Args:
        level: Feature maps, (N, C, ...) fp32.
        storage: Key of ``STORAGES``. ``'int8'`` divides the range of each
            channel's map of an image, from its minimum to its maximum, into
            255 steps.

    Returns:
        The stored values, (N, C, ...); for int8 also the step and the minimum
        of each map, each (N, C) in the dtype of ``level``.

    Raises:
        ValueError: If values are not finite, or too large for fp16.
    """
    if not torch.isfinite(level).all():
        raise ValueError(
            'Features must be finite to be stored, got some that are not. '
            "Fill with --forward fp32, and check the classifier's weights."
        )
    if storage != 'int8':
        stored = level.to(STORAGES[storage])
        if not torch.isfinite(stored).all():
            raise ValueError(
                'Features must be below 65,504 for fp16, got '
                f'{float(level.abs().max()):,.0f}. Fill with --storage bf16.'
            )
        return [stored]
    flat = level.flatten(2)
    least = flat.amin(2)
    step = ((flat.amax(2) - least) / 255).clamp(min=1e-30)
    shape = (*least.shape, *[1] * (level.dim() - 2))
    steps = (level - least.view(shape)) / step.view(shape)
    return [steps.round().clamp(0, 255).to(torch.uint8), step, least]


def unpack(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Return the feature maps of one level, (N, C, ...).

    Args:
        parts: Tensors that :func:`pack` returned.
        dtype: Dtype of the result.
    """
    if len(parts) == 1:
        return parts[0].to(dtype)
    stored, step, least = parts
    shape = (*least.shape, *[1] * (stored.dim() - 2))
    # bf16 has no more precision than int8: compute in fp32, then cast
    return (stored * step.view(shape)).add_(least.view(shape)).to(dtype)


def errors(level: Tensor, parts: list[Tensor]) -> list[float]:
    """Return for each image the relative error of its maps, in the 2-norm."""
    moved = (unpack(parts, level.dtype) - level).flatten(1).norm(dim=1)
    length = level.flatten(1).norm(dim=1).clamp(min=1e-12)
    return (moved / length).tolist()  # type: ignore[no-any-return]
