"""Masks as run-length encodings, and their decoding into crops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask

from ..mask_crops import EMPTY, Crop, rle_lengths, tighten


class Runs(NamedTuple):
    """An annotated mask as runs, not decoded.

    Attributes:
        bounds: (2 n,) int64 positions in column-major order: the mask is set
            from an even entry up to the odd one after it.
        height: Height of the annotated image in pixels.
    """

    bounds: np.ndarray
    height: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return a box around the mask; runs of length zero may make it
        wider."""
        if not len(self.bounds):
            return 0, 0, 0, 0
        starts, lasts = self.bounds[::2], self.bounds[1::2] - 1
        left, right = starts[0] // self.height, lasts[-1] // self.height
        if (starts // self.height != lasts // self.height).any():
            top, bottom = 0, self.height - 1  # a run spans columns
        else:
            top = (starts % self.height).min()
            bottom = (lasts % self.height).max()
        return int(left), int(top), int(right) + 1, int(bottom) + 1


def encode(annotation: Any, height: int, width: int) -> Runs:
    """Convert an annotated mask to runs, as pycocotools rasterises it.

    Args:
        annotation: A mask as MMDetection takes it: polygons ``[[x, y, ...],
            ...]`` or an RLE, compressed or not.
        height: Height of the annotated image.
        width: Width of the annotated image.

    Returns:
        The runs. Decoding them gives MMDetection's bitmap bit by bit.

    Raises:
        ValueError: If an RLE has another size.
    """
    if isinstance(annotation, (list, tuple)):
        if not len(annotation):
            return Runs(np.zeros(0, np.int64), height)
        rles = coco_mask.frPyObjects(list(annotation), height, width)
        rle = coco_mask.merge(rles)
    elif isinstance(annotation['counts'], list):
        rle = coco_mask.frPyObjects(annotation, height, width)
    else:
        rle = annotation
    if list(rle['size']) != [height, width]:
        raise ValueError(
            f'A mask must have the size of its image {(height, width)}, got '
            f'an RLE of {tuple(rle["size"])}. Correct the annotation file.'
        )
    counts = rle['counts']
    lengths = rle_lengths(
        counts.encode() if isinstance(counts, str) else counts
    )
    bounds = np.cumsum(lengths)
    if len(bounds) % 2:  # the last run is of zeros
        bounds = bounds[:-1]
    return Runs(bounds, height)


def decode(
    source: Crop | Runs,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
) -> Crop:
    """Draw a mask as seen through a resized, cropped or flipped frame.

    Only the part inside the frame is drawn.

    Args:
        source: The mask.
        rows: (H,) source row shown by each row of the frame, ascending or
            descending; -1 for none. None for the source's own rows.
        columns: (W,) source column shown by each column, likewise.

    Returns:
        The mask in the frame.
    """
    if rows is None or columns is None:
        if isinstance(source, Crop):
            return source
        left, top, right, bottom = source.box
        rows, columns = np.arange(bottom), np.arange(right)
    left, top, right, bottom = source.box
    x, columns = _inside(columns, left, right)
    y, rows = _inside(rows, top, bottom)
    if not len(rows) or not len(columns):
        return Crop(0, 0, EMPTY)
    if isinstance(source, Crop):
        bitmap = source.bitmap[_slice_or_index(rows - top), :][
            :, _slice_or_index(columns - left)
        ]
    else:
        bitmap = _draw(source, rows, columns)
    return tighten(x, y, bitmap)


def _inside(
    index: np.ndarray, start: int, stop: int
) -> tuple[int, np.ndarray]:
    """Return the first position and the values of the part of an index whose
    values are within [start, stop)."""
    found = np.flatnonzero((index >= start) & (index < stop))
    if not len(found):
        return 0, index[:0]
    return int(found[0]), index[found[0] : found[-1] + 1]


def _slice_or_index(index: np.ndarray) -> slice | np.ndarray:
    """Return a slice, which gives a view, if the index changes by steps of 1
    or -1; else the index."""
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    if abs(step) == 1 and (np.diff(index) == step).all():
        stop = int(index[-1]) + step
        return slice(int(index[0]), None if stop < 0 else stop, step)
    return index


def _draw(source: Runs, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Draw rows and columns of a mask, each ascending or descending.

    The end of each run, in column-major order, is moved to its position among
    the selected rows; the selected columns are then taken as a whole.
    """
    falls = rows[0] > rows[-1]
    if falls:
        rows = rows[::-1]
    low = min(columns[0], columns[-1])
    high = max(columns[0], columns[-1]) + 1
    first, last = np.searchsorted(
        source.bounds, (low * source.height, high * source.height)
    )
    first -= first % 2  # include a run that began before
    last += last % 2
    column, row = np.divmod(source.bounds[first:last], source.height)
    kept_above = np.searchsorted(rows, np.arange(source.height))
    ends = (column - low) * len(rows) + kept_above[row]
    size = (high - low) * len(rows)
    ends = np.clip(ends, 0, size)
    lengths = np.diff(ends, prepend=0, append=size)
    values = np.zeros(len(lengths), np.uint8)
    values[1::2] = 1
    bitmap = np.repeat(values, lengths).reshape(high - low, len(rows))
    bitmap = bitmap[_slice_or_index(columns - low)].T
    return np.ascontiguousarray(bitmap[::-1] if falls else bitmap)
