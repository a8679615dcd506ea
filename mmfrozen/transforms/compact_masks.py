"""Instance masks that are rasterised only when whole bitmaps are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes, get_box_type
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from ..mask_crops import EMPTY, Crop, tighten
from .crops import Runs, decode, encode


class CompactMasks(BitmapMasks):
    """MMDetection's bitmap masks, stored as runs or small crops.

    What MMDetection lacks: its bitmaps are whole images, 60 MB for 60 objects
    at 1024 x 1024, which every step of a pipeline processes and every worker
    sends through a pipe. Here resizing, cropping, flipping and padding only
    record which row and column of the annotated image each row and column
    shows; a mask is drawn once, at its final size, when its box, its area or
    its pixels are read. Every result equals MMDetection's bit by bit. Reading
    ``masks`` returns MMDetection's array, after which the object behaves like
    an ordinary ``BitmapMasks``.

    Args:
        sources: One :class:`~.crops.Runs` or :class:`~.crops.Crop` per mask,
            never modified.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        rows: (height,) source row shown by each row, -1 for none; None if the
            sources are not transformed.
        columns: (width,) source column shown by each column, likewise.
    """

    def __init__(
        self,
        sources: Sequence[Crop | Runs],
        height: int,
        width: int,
        *,
        rows: np.ndarray | None = None,
        columns: np.ndarray | None = None,
    ) -> None:
        self.height = int(height)
        self.width = int(width)
        self._sources = list(sources)
        self._rows = rows
        self._columns = columns
        self._crops: list[Crop | None] = [None] * len(self._sources)
        self._masks: np.ndarray | None = None

    @classmethod
    def of(cls, masks: BitmapMasks | PolygonMasks) -> CompactMasks:
        """Convert MMDetection's masks without copying their pixels.

        Polygons are drawn as ``PolygonMasks.to_bitmap`` draws them.
        """
        size = masks.height, masks.width
        if isinstance(masks, PolygonMasks):
            return cls([encode(p, *size) for p in masks.masks], *size)
        if isinstance(masks, cls) and masks._masks is None:
            return masks
        return cls([_crop_of(mask) for mask in masks.masks], *size)

    @property
    def crops(self) -> list[Crop]:
        """Return one tight crop per mask; drawn at the first call."""
        if self._masks is not None:  # the array may have been modified
            return [_crop_of(mask) for mask in self._masks]
        for i, crop in enumerate(self._crops):
            if crop is None:
                self._crops[i] = decode(
                    self._sources[i], self._rows, self._columns
                )
        return list(self._crops)

    @property
    def masks(self) -> np.ndarray:
        """Return MMDetection's array, (N, H, W) uint8."""
        if self._masks is None:
            masks = np.zeros((len(self), self.height, self.width), np.uint8)
            for mask, crop in zip(masks, self.crops, strict=True):
                crop.window(mask)[...] = crop.bitmap
            self._masks = masks
        return self._masks

    @masks.setter
    def masks(self, masks: np.ndarray) -> None:
        self._masks = masks

    @property
    def _is_whole(self) -> bool:
        return self._masks is not None

    def __len__(self) -> int:
        return len(self._sources if self._masks is None else self._masks)

    def __getitem__(self, index: Any) -> BitmapMasks:
        """Select masks, as MMDetection's class does."""
        if self._is_whole:
            return super().__getitem__(index)
        chosen = np.arange(len(self))[index].reshape(-1)
        result = self._like([self._sources[i] for i in chosen])
        result._crops = [self._crops[i] for i in chosen]
        return result

    def _like(self, sources: list[Crop | Runs]) -> CompactMasks:
        return CompactMasks(
            sources,
            self.height,
            self.width,
            rows=self._rows,
            columns=self._columns,
        )

    def _remap(self, rows: np.ndarray, columns: np.ndarray) -> CompactMasks:
        """Return the masks seen through another frame."""
        sources = self._sources
        if all(crop is not None for crop in self._crops):
            sources = self._crops  # already drawn: start from the crops
        elif self._rows is not None:
            rows = _compose(self._rows, rows)
            columns = _compose(self._columns, columns)
        return CompactMasks(
            sources, len(rows), len(columns), rows=rows, columns=columns
        )

    def rescale(
        self, scale: Any, interpolation: str = 'nearest'
    ) -> BitmapMasks:
        """Override MMDetection's method of the same name."""
        if self._is_whole or interpolation != 'nearest':
            return super().rescale(scale, interpolation)
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self.resize((height, width))

    def resize(
        self, out_shape: tuple[int, int], interpolation: str = 'nearest'
    ) -> BitmapMasks:
        """Override MMDetection's method of the same name."""
        if self._is_whole or interpolation != 'nearest':
            return super().resize(out_shape, interpolation)
        return self._remap(
            nearest(self.height, out_shape[0]),
            nearest(self.width, out_shape[1]),
        )

    def flip(self, flip_direction: str = 'horizontal') -> BitmapMasks:
        """Override MMDetection's method of the same name."""
        if self._is_whole:
            return super().flip(flip_direction)
        assert flip_direction in ('horizontal', 'vertical', 'diagonal')
        rows, columns = np.arange(self.height), np.arange(self.width)
        if flip_direction != 'horizontal':
            rows = rows[::-1]
        if flip_direction != 'vertical':
            columns = columns[::-1]
        return self._remap(rows, columns)

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        """Override MMDetection's method; pads below and on the right."""
        height, width = out_shape
        if (
            self._is_whole
            or pad_val
            or height < self.height
            or width < self.width
        ):
            return super().pad(out_shape, pad_val)
        result = self._like(self._sources)
        result.height, result.width = int(height), int(width)
        result._crops = list(self._crops)
        if self._rows is not None:
            result._rows = _extend(self._rows, height)
            result._columns = _extend(self._columns, width)
        return result

    def crop(self, bbox: np.ndarray) -> BitmapMasks:
        """Override MMDetection's method of the same name."""
        if self._is_whole:
            return super().crop(bbox)
        left, right = np.clip(bbox[0::2], 0, self.width)
        top, bottom = np.clip(bbox[1::2], 0, self.height)
        rows = np.arange(self.height)[top : top + max(bottom - top, 1)]
        columns = np.arange(self.width)[left : left + max(right - left, 1)]
        return self._remap(rows, columns)

    def crop_and_resize(
        self,
        bboxes: Any,
        out_shape: tuple[int, int],
        inds: Any,
        *args: Any,
        **kwargs: Any,
    ) -> BitmapMasks:
        """Override MMDetection's method; rasterise only the masks of
        `inds`."""
        if self._is_whole or not len(inds):
            return super().crop_and_resize(
                bboxes, out_shape, inds, *args, **kwargs
            )
        used, where = torch.as_tensor(inds).unique(return_inverse=True)
        whole = BitmapMasks(
            self[used.cpu().numpy()].masks, self.height, self.width
        )
        return whole.crop_and_resize(bboxes, out_shape, where, *args, **kwargs)

    @property
    def areas(self) -> np.ndarray:
        """Return the number of set pixels of each mask, (N,)."""
        if self._is_whole:
            return super().areas
        return np.array([c.bitmap.sum() for c in self.crops], np.uint64)

    def get_bboxes(self, dst_type: Any = 'hbb') -> Any:
        """Return the boxes around the masks; zeros for an empty mask."""
        if self._is_whole or get_box_type(dst_type)[1] is not HorizontalBoxes:
            return super().get_bboxes(dst_type)
        boxes = np.zeros((len(self), 4), np.float32)
        for box, crop in zip(boxes, self.crops, strict=True):
            box[:] = crop.box
        return HorizontalBoxes(boxes)

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        """Concatenate masks of one size."""
        if any(getattr(m, '_is_whole', True) for m in masks):
            return BitmapMasks.cat(masks)
        crops = [crop for m in masks for crop in m.crops]
        return cls(crops, masks[0].height, masks[0].width)

    def __deepcopy__(self, memo: dict) -> CompactMasks:
        result = self._like(self._sources)  # never modified
        result._crops = list(self._crops)
        if self._masks is not None:
            result._masks = self._masks.copy()
        return result

    def __getstate__(self) -> dict[str, Any]:
        crops = self._sources if self._is_whole else self.crops
        return dict(
            height=self.height,
            width=self.width,
            crops=[] if self._is_whole else crops,
            masks=self._masks,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state['crops'], state['height'], state['width'])
        self._masks = state['masks']

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_masks={len(self)}, '
            f'height={self.height}, width={self.width})'
        )


def nearest(size: int, new_size: int) -> np.ndarray:
    """Return which pixels MMDetection's resizing of masks takes.

    OpenCV computes them, with the masks' dtype, as its rounding differs
    between versions.

    Args:
        size: Length of a row or column in pixels.
        new_size: Length after resizing.

    Returns:
        (new_size,) int64 positions in the old row.
    """
    places = np.arange(size)
    low, high = (
        cv2.resize(
            (part & 255).astype(np.uint8)[None],
            (int(new_size), 1),
            interpolation=cv2.INTER_NEAREST,
        )[0].astype(np.int64)
        for part in (places, places >> 8)
    )
    return low + (high << 8)


def _compose(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    return np.where(outer >= 0, inner[outer], -1)


def _extend(index: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate((index, np.full(size - len(index), -1)))


def _crop_of(mask: np.ndarray) -> Crop:
    if mask.dtype not in (np.uint8, bool):
        mask = mask != 0
    crop = tighten(0, 0, mask)
    if crop.bitmap.size and crop.bitmap.max() > 1:
        crop = crop._replace(bitmap=(crop.bitmap != 0).view(np.uint8))
    return crop


def rectangles(boxes: np.ndarray, height: int, width: int) -> CompactMasks:
    """Return masks that fill boxes, like MMDetection's ``create_masks``.

    Args:
        boxes: (N, 4) left, top, right, bottom in pixels.
        height: Height of the image.
        width: Width of the image.

    Returns:
        The masks.
    """
    crops = []
    whole = np.clip(boxes.astype(np.int64), 0, [width, height] * 2)
    for left, top, right, bottom in whole.tolist():
        size = bottom - top, right - left
        crops.append(
            Crop(left, top, np.ones(size, np.uint8))
            if min(size) > 0
            else Crop(0, 0, EMPTY)
        )
    return CompactMasks(crops, height, width)
