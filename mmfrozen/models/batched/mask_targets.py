"""Mask targets computed from bit-packed annotated masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks
from torch import Tensor

from ...mask_crops import Crop
from .truth import on_device

#: Maximum mask pixels unpacked per chunk: 512 MiB of fp32.
PIXELS = 2**27


class PackedMasks(NamedTuple):
    """The annotated masks of a batch on the device, one bit per pixel.

    Attributes:
        bits: (T, H, ceil(W / 8)) uint8, eight pixels per byte, for the T
            objects of all images.
        width: Width W of the masks in pixels.
        sizes: (N, 2) fp32, width and height of each image's masks.
    """

    bits: Tensor
    width: int
    sizes: Tensor


def masks_fallback_reason(masks: Sequence[Any]) -> str | None:
    """Return why masks cannot be packed; None if they can."""
    other = [m for m in masks if not isinstance(m, BitmapMasks)]
    return f'masks of type {type(other[0]).__name__}' if other else None


def pack_masks(
    masks: Sequence[BitmapMasks], device: torch.device
) -> PackedMasks:
    """Copy masks to the device, one bit per pixel.

    MMDetection copies one byte per pixel, and again as floats for each region.

    Args:
        masks: Masks of each image.
        device: Device of the model.
    """
    height = max(m.height for m in masks)
    width = max(m.width for m in masks)
    count = sum(map(len, masks))
    bits = np.zeros((count, height, -(-width // 8)), np.uint8)
    rows = iter(bits)
    for each in masks:
        for crop in _crops(each):
            _draw(next(rows), crop, (each.height, each.width), width)
    sizes = torch.tensor([(m.width, m.height) for m in masks]).float()
    bits_there = on_device(torch.from_numpy(bits), device)
    return PackedMasks(bits_there, width, on_device(sizes, device))


def mask_targets(
    masks: PackedMasks,
    boxes: Tensor,
    images: Tensor,
    objects: Tensor,
    size: tuple[int, int],
    *,
    binary: bool,
    pixels: int = PIXELS,
) -> Tensor:
    """Crop and resize the mask of each region, as MMDetection does.

    Args:
        masks: Packed masks of the batch.
        boxes: (P, 4), regions, corners in pixels.
        images: (P,) int64, index of the image of each region.
        objects: (P,) int64, index among all objects of the batch.
        size: Height and width of a target in pixels.
        binary: Whether to threshold the targets to 0 or 1.
        pixels: Maximum mask pixels per chunk, which bounds the memory.

    Returns:
        (P, *size) fp32.
    """
    limits = masks.sizes[images].repeat(1, 2)
    boxes = boxes.float().clamp(min=0).minimum(limits)
    step = max(1, pixels // (masks.bits.shape[1] * masks.width))
    drawn: Tensor | None = None
    for start in range(0, len(masks.bits), step):
        part = masks.bits[start : start + step]
        row = objects - start
        own = (row >= 0) & (row < len(part))
        row = row.clamp(0, len(part) - 1)
        rois = torch.cat((row[:, None].to(boxes), boxes), dim=1)
        pixel = _unpacked(part, masks.width)
        found = roi_align(pixel[:, None], rois, size, 1.0, 0, 'avg', True)
        found = found[:, 0]
        drawn = (
            found if drawn is None else found.where(own[:, None, None], drawn)
        )
    assert drawn is not None
    return (drawn >= 0.5).float() if binary else drawn


def _crops(masks: BitmapMasks) -> list[Crop]:
    found: list[Crop] | None = getattr(masks, 'crops', None)
    if found is None:
        pixels = masks.masks.astype(np.uint8, copy=False)
        found = [Crop(0, 0, mask) for mask in pixels]
    return found


def _draw(
    row: np.ndarray, crop: Crop, frame: tuple[int, int], width: int
) -> None:
    """Set the bits of one mask."""
    left, top, right, bottom = crop.box
    pixels = crop.bitmap
    # RoIAlign repeats the last pixel at the edge of the image; here it would
    # read the padding after that edge, so the pixel is repeated there
    grow = (
        int(bottom == frame[0] < len(row)),
        int(right == frame[1] < width),
    )
    if any(grow):
        pixels = np.pad(pixels, ((0, grow[0]), (0, grow[1])), mode='edge')
    if left % 8:
        pixels = np.pad(pixels, ((0, 0), (left % 8, 0)))
    bits = np.packbits(pixels, axis=1)
    row[top : top + len(bits), left // 8 :][:, : bits.shape[1]] = bits


def _unpacked(bits: Tensor, width: int) -> Tensor:
    """Unpack bits to pixels, (K, h, w) fp32."""
    bit = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    pixels = (bits[..., None] >> bit).bitwise_and_(1).flatten(2)
    return pixels[..., :width].float()
