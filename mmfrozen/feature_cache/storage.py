"""How features are stored: in 32, 16 or 8 bits a number."""

from __future__ import annotations

import torch
from torch import Tensor

#: By name: the dtype that lies on the disk.
STORAGES = {
    'fp32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
    'int8': torch.uint8,
}


def pack(level: Tensor, storage: str) -> list[Tensor]:
    """Store feature maps.

    Args:
        level: (N, C, ...) fp32.
        storage: Of ``STORAGES``. ``'int8'`` divides the range of each map of
            an image, from its least to its largest number, into 255 steps.

    Returns:
        The numbers, and for int8 the step and the least number of each map,
        (N, C) fp32.

    Raises:
        ValueError: If numbers are not finite, or too large for fp16.
    """
    if not torch.isfinite(level).all():
        raise ValueError(
            'Features must be finite to be stored, got some that are not. '
            "Fill with --forward fp32, and look at the classifier's weights."
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
    """Read feature maps.

    Args:
        parts: Of :func:`pack`.
        dtype: Of the result.
    """
    if len(parts) == 1:
        return parts[0].to(dtype)
    stored, step, least = parts
    shape = (*least.shape, *[1] * (stored.dim() - 2))
    # int8 has 8 bits, as bf16 has: the sum is fp32's
    return (stored * step.view(shape)).add_(least.view(shape)).to(dtype)


def errors(level: Tensor, parts: list[Tensor]) -> list[float]:
    """Relative error of each image's maps in the 2-norm."""
    moved = (unpack(parts, level.dtype) - level).flatten(1).norm(dim=1)
    length = level.flatten(1).norm(dim=1).clamp(min=1e-12)
    return (moved / length).tolist()  # type: ignore[no-any-return]
