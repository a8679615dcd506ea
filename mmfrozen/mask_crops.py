"""Masks as bitmaps cropped to their box."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

EMPTY = np.zeros((0, 0), np.uint8)


class Crop(NamedTuple):
    """The part of a mask inside its bounding box.

    Attributes:
        x: Left edge in the image, in pixels.
        y: Top edge in the image, in pixels.
        bitmap: (h, w) uint8 of 0 and 1; it must not be modified.
    """

    x: int
    y: int
    bitmap: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels; the last two are exclusive."""
        height, width = self.bitmap.shape
        return self.x, self.y, self.x + width, self.y + height

    def window(self, canvas: np.ndarray) -> np.ndarray:
        """Return a view of an (H, W, ...) array under the crop."""
        left, top, right, bottom = self.box
        return canvas[top:bottom, left:right]


def tighten(x: int, y: int, bitmap: np.ndarray) -> Crop:
    """Crop a bitmap to its nonzero pixels.

    Args:
        x: Left edge of the bitmap in the image.
        y: Top edge.
        bitmap: (h, w) uint8 or bool; it is viewed, not copied.

    Returns:
        The crop; of size 0 x 0 at (0, 0) if nothing is set.
    """
    if bitmap.dtype == bool:
        bitmap = bitmap.view(np.uint8)
    left, top, width, height = (
        cv2.boundingRect(bitmap) if bitmap.size else ((0, 0, 0, 0))
    )
    if not width:
        return Crop(0, 0, EMPTY)
    return Crop(
        x + left, y + top, bitmap[top : top + height, left : left + width]
    )


def rle_lengths(text: bytes) -> np.ndarray:
    """Decode the run lengths of a compressed RLE.

    A vectorised version of pycocotools' ``rleFrString``: each character holds
    5 bits of a number, low bits first; bit 5 is set if more follow; from the
    fourth number on, the differences to the last but one are stored.

    Raises:
        ValueError: If it is truncated or has invalid characters.
    """
    characters = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if characters.size and ((characters >> 6).any() or characters[-1] & 32):
        raise ValueError(
            'A compressed RLE must be whole, got other characters or no end. '
            'Correct the annotation file.'
        )
    last = np.flatnonzero((characters & 32) == 0)
    if not len(last):
        return np.zeros(0, np.int64)
    first = np.concatenate(([0], last[:-1] + 1))
    digit = np.arange(last[-1] + 1) - np.repeat(first, last - first + 1)
    values = np.add.reduceat(
        (characters[: last[-1] + 1] & 31) << 5 * digit, first
    )
    negative = (characters[last] & 16) != 0
    values[negative] -= np.int64(1) << 5 * (last - first + 1)[negative]
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
