"""Compositing of pasted objects' pixels into an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from ..errors import require
from ..mask_crops import Crop, tighten

#: Dtypes that OpenCV can copy through a mask.
COPIED_BY_CV2 = ('uint8', 'int16', 'uint16', 'int32', 'float32', 'float64')


@dataclass(frozen=True)
class Piece:
    """An object to be pasted into an image.

    Attributes:
        crop: Its mask at the target position.
        pixels: (h, w, ...) pixels under that crop.
        box: (4,) float32 box at the target position.
        label: Class label.
        overlapping_labels: Labels of other objects visible inside its mask.
        segments: (h, w) semantic labels under the crop, or None.
    """

    crop: Crop
    pixels: np.ndarray
    box: np.ndarray
    label: int
    overlapping_labels: tuple[int, ...] = ()
    segments: np.ndarray | None = None

    def cut_to(self, seen: Crop) -> Piece:
        """Return the piece reduced to a part of its mask.

        Args:
            seen: The part, cropped tightly. If it is the whole mask, the
                piece itself is returned.
        """
        if seen.bitmap.sum() == self.crop.bitmap.sum():
            return self
        inside = Crop(seen.x - self.crop.x, seen.y - self.crop.y, seen.bitmap)
        return replace(
            self,
            crop=seen,
            pixels=inside.window(self.pixels),
            box=np.array(seen.box, self.box.dtype),
            segments=None
            if self.segments is None
            else inside.window(self.segments),
        )


def cover(crops: Sequence[Crop], shape: tuple[int, ...]) -> np.ndarray:
    """Return the union of masks.

    Args:
        crops: The masks.
        shape: Height and width.

    Returns:
        (H, W) uint8 of 0 and 1.
    """
    union = np.zeros(shape, np.uint8)
    for crop in crops:
        window = crop.window(union)
        np.bitwise_or(window, crop.bitmap, out=window)
    return union


def visible_parts(crops: Sequence[Crop], union: np.ndarray) -> dict[int, Crop]:
    """Return the masks that are partly covered, reduced to their visible part.

    Args:
        crops: The masks.
        union: (H, W) uint8, 1 where something covers the masks.

    Returns:
        Tight visible part by index, for masks that lose a pixel.
    """
    found = {}
    for i, crop in enumerate(crops):
        hidden = crop.window(union) & crop.bitmap
        if hidden.any():
            found[i] = tighten(crop.x, crop.y, crop.bitmap ^ hidden)
    return found


def paint(
    result: dict[str, Any],
    original: dict[str, Any],
    pieces: Sequence[Piece],
    union: np.ndarray,
    blend_sigma: float,
) -> None:
    """Paint pieces into copies of the image, and of the semantic map if there
    is one.

    Args:
        result: Result dict that receives the new arrays.
        original: Result dict of the image, which is not modified.
        pieces: Objects to paint.
        union: (H, W) uint8, union of their masks.
        blend_sigma: Sigma of the fading edge in pixels; 0 for a hard edge.
    """
    image = original['img'].copy()
    alpha = None
    if blend_sigma:
        blurred = union.astype(np.float32)
        alpha = cv2.GaussianBlur(blurred, (0, 0), blend_sigma)
    for piece in pieces:
        _copy(piece.pixels, piece.crop, image, alpha)
    result['img'] = image
    if original.get('gt_seg_map') is not None:
        segments = original['gt_seg_map'].copy()
        unknown = original.get('ignore_index', 255)
        for piece in pieces:
            under = piece.crop.window(segments)
            under[piece.crop.bitmap != 0] = (
                unknown
                if piece.segments is None
                else piece.segments[piece.crop.bitmap != 0]
            )
        result['gt_seg_map'] = segments


def _copy(
    pixels: np.ndarray, crop: Crop, image: np.ndarray, alpha: Any
) -> None:
    """Copy (h, w, ...) pixels through a mask."""
    under = crop.window(image)
    require(
        pixels.size == under.size,
        'SimpleCopyPaste',
        f'given objects with the channels of the image {image.shape[2:]}',
        pixels.shape[2:],
        'Load both with one color_type.',
    )
    pixels = pixels.reshape(under.shape).astype(image.dtype, copy=False)
    where = crop.bitmap != 0
    if alpha is not None:
        weight = crop.window(alpha)[where]
        weight = weight.reshape(-1, *[1] * (image.ndim - 2))
        mixed = under[where] * (1 - weight) + pixels[where] * weight
        if np.issubdtype(image.dtype, np.integer):
            mixed = np.rint(mixed)
        under[where] = mixed.astype(image.dtype)
    elif image.dtype.name in COPIED_BY_CV2:
        cv2.copyTo(pixels, crop.bitmap, under)
    else:
        under[where] = pixels[where]
