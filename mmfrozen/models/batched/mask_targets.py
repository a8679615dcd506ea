"""Mask targets from the cropped bits of annotated masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks
from torch import Tensor

from ...mask_crops import Crop, tighten

#: Pixels of masks that are unpacked at once: 512 MiB of fp32.
PIXELS = 2**27


class Pack(NamedTuple):
    """Masks of similar size, cropped, with a border of one pixel.

    Attributes:
        bits: (K, h, ceil(w / 8)) uint8, eight pixels a byte.
        width: Pixels of a row.
        rows: (T,) int64: which of these masks an object of the batch has; 0
            for those of other packs.
        own: (T,) bool: which objects are in this pack.
        origins: (K, 2) fp32: x and y of the upper left pixel in the image.
    """

    bits: Tensor
    width: int
    rows: Tensor
    own: Tensor
    origins: Tensor


class PackedMasks(NamedTuple):
    """The masks of a batch on the device.

    Attributes:
        packs: One for most batches; more where memory would not be bounded.
        size: (N, 2) fp32: width and height of the image of the masks.
    """

    packs: list[Pack]
    size: Tensor


def why_not_masks(masks: Sequence[Any]) -> str | None:
    """Say why masks cannot be packed."""
    other = [m for m in masks if not isinstance(m, BitmapMasks)]
    return f'masks of type {type(other[0]).__name__}' if other else None


def pack_masks(
    masks: Sequence[BitmapMasks], device: torch.device, *, pixels: int = PIXELS
) -> PackedMasks:
    """Copy masks to the device: their tight crops, a bit a pixel.

    MMDetection copies a byte for each pixel of the image.

    Args:
        masks: Of each image.
        device: Of the model.
        pixels: In a pack at most, so that memory is bounded.
    """
    crops, frames = [], []
    for each in masks:
        crops += _crops(each)
        frames += [(each.height, each.width)] * len(each)
    order = sorted(range(len(crops)), key=lambda i: crops[i].bitmap.size)
    packs = []
    while order or not packs:
        chosen, order = _fitting(crops, order, pixels)
        packs.append(_pack(crops, frames, chosen, device))
    size = torch.tensor([(m.width, m.height) for m in masks]).float()
    return PackedMasks(packs, _copied(size, device))


def mask_targets(
    masks: PackedMasks,
    boxes: Tensor,
    images: Tensor,
    objects: Tensor,
    size: tuple[int, int],
    *,
    binary: bool,
) -> Tensor:
    """Draw the mask of each region, as MMDetection does.

    Args:
        masks: Of the batch.
        boxes: (P, 4), corners in pixels.
        images: (P,) int64.
        objects: (P,) int64: object among those of the batch.
        size: Height and width of a target.
        binary: Whether pixels are 0 or 1.

    Returns:
        (P, *size) fp32.
    """
    limits = masks.size[images].repeat(1, 2)
    boxes = boxes.float().clamp(min=0).minimum(limits)
    drawn: Tensor | None = None
    for pack in masks.packs:
        row = pack.rows[objects]
        shifted = boxes - pack.origins[row].repeat(1, 2)
        rois = torch.cat((row[:, None].to(shifted), shifted), dim=1)
        part = roi_align(
            _unpacked(pack)[:, None], rois, size, 1.0, 0, 'avg', True
        )[:, 0]
        own = pack.own[objects][:, None, None]
        drawn = part if drawn is None else part.where(own, drawn)
    assert drawn is not None
    return (drawn >= 0.5).float() if binary else drawn


def _crops(masks: BitmapMasks) -> list[Crop]:
    found: list[Crop] | None = getattr(masks, 'crops', None)
    if found is None:
        found = [tighten(0, 0, np.ascontiguousarray(m)) for m in masks.masks]
    return found


def _fitting(
    crops: list[Crop], order: list[int], pixels: int
) -> tuple[list[int], list[int]]:
    """Split off as many of the smallest masks as fit; at least one."""
    height = width = count = 0
    for i in order:
        h, w = crops[i].bitmap.shape
        height, width = max(height, h + 2), max(width, w + 2)
        if count and (count + 1) * height * width > pixels:
            break
        count += 1
    return order[:count], order[count:]


def _pack(
    crops: list[Crop],
    frames: list[tuple[int, int]],
    chosen: list[int],
    device: torch.device,
) -> Pack:
    shapes = [crops[i].bitmap.shape for i in chosen] or [(0, 0)]
    height = max(h for h, _ in shapes) + 2
    width = max(w for _, w in shapes) + 2
    canvas = np.zeros((max(1, len(chosen)), height, width), np.uint8)
    for mask, i in zip(canvas, chosen, strict=False):
        _draw(mask, crops[i], *frames[i])
    rows = np.zeros(len(crops), np.int64)
    own = np.zeros(len(crops), bool)
    rows[chosen], own[chosen] = np.arange(len(chosen)), True
    origins = [(crops[i].x - 1, crops[i].y - 1) for i in chosen] or [(0, 0)]
    tensors = (np.packbits(canvas, axis=-1), rows, own)
    bits, rows, own = (_copied(torch.from_numpy(t), device) for t in tensors)
    origin = _copied(torch.tensor(origins).float(), device)
    return Pack(bits, width, rows, own, origin)


def _draw(mask: np.ndarray, crop: Crop, height: int, width: int) -> None:
    """At the edge of the image, RoIAlign goes on with the last pixel."""
    left, top, right, bottom = crop.box
    h, w = crop.bitmap.shape
    mask[1 : h + 1, 1 : w + 1] = crop.bitmap
    if not crop.bitmap.size:
        return
    if left == 0:
        mask[:, 0] = mask[:, 1]
    if right == width:
        mask[:, w + 1] = mask[:, w]
    if top == 0:
        mask[0] = mask[1]
    if bottom == height:
        mask[h + 1] = mask[h]


def _unpacked(pack: Pack) -> Tensor:
    """(K, h, w) fp32."""
    bit = torch.arange(7, -1, -1, device=pack.bits.device, dtype=torch.uint8)
    pixels = (pack.bits[..., None] >> bit).bitwise_and_(1).flatten(2)
    return pixels[..., : pack.width].float()


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == 'cuda':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
