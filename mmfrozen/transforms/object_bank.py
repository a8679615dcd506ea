"""An in-memory bank of small cut-outs of rare objects for copy-paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmdet.registry import TRANSFORMS
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import track

from ..errors import is_number, require
from ..mask_crops import Crop, tighten
from ..registry import TASK_UTILS
from .class_index import ClassIndex, distinct, index_classes, transforms_of
from .compact_masks import nearest
from .crops import decode, encode
from .federated import NEGATIVE, NOT_EXHAUSTIVE
from .painting import Piece, visible_parts
from .paste_sources import (
    Draw,
    check_classes,
    cumulative,
    draw_index,
    wanted_labels,
)


class _Plan(NamedTuple):
    """An object that will be stored in the bank."""

    row: int  # index of its image among the distinct images
    number: int  # index among the instances of its image
    num_bytes: int


class _Entry(NamedTuple):
    """An object stored in the bank."""

    start: int  # index of its first byte in the buffer
    shape: tuple[int, ...]  # (h, w, channels)
    scale: float  # stored size divided by the size in the image
    image_size: tuple[int, int]  # (height, width) of its image
    label: int
    overlapping_labels: tuple[int, ...]


@TASK_UTILS.register_module()
class ObjectBank:
    """Objects of rare classes, cut out once and pasted without a second image.

    What MMDetection lacks: it decodes and jitters a whole second image for
    each sample. The bank is filled before training, in the main process; its
    pixels are stored in one buffer that forked workers share. One object per
    class is stored in turn, rarest class first, until ``max_bytes`` is used
    up. Each object is scaled, flipped and placed at random, and cropped at the
    border if it is too large: large-scale jitter, applied to single objects.

    Args:
        max_bytes: Memory for pixels and masks; 256 MiB hold about 8,500
            objects of 100 x 100 pixels.
        max_class_images: A class counts as rare if at most this number of
            images holds it (LVIS: rare up to 10, common up to 100).
        classes: Names of the classes to use instead of the rare ones.
        num_objects: Minimum and maximum number of objects per image.
        ratio_range: Range of the scale; 1 fits the object's own image into the
            target image.
        flip_prob: Probability to mirror an object.
        power: See :class:`~.paste_sources.RareSources`.
        max_side: Maximum side in pixels of a stored object; larger ones are
            scaled down.

    Raises:
        ValueError: If no class is rare, one of `classes` is in no image, or
            objects have no masks.

    Example config::

        sources=dict(type='mmfrozen.ObjectBank', max_bytes=256 * 2**20)
    """

    def __init__(
        self,
        max_bytes: int = 256 * 2**20,
        *,
        max_class_images: int = 100,
        classes: Sequence[str] | None = None,
        num_objects: tuple[int, int] = (1, 4),
        ratio_range: tuple[float, float] = (0.1, 2.0),
        flip_prob: float = 0.5,
        power: float = 0.5,
        max_side: int = 512,
    ) -> None:
        check_classes('ObjectBank', power, max_class_images)
        require(
            is_number(max_bytes) and max_bytes > 0,
            'ObjectBank.max_bytes',
            'a number of bytes above 0',
            max_bytes,
            '256 * 2**20 are 256 MiB.',
        )
        _check_range('num_objects', num_objects, 0, whole=True)
        _check_range('ratio_range', ratio_range, 1e-3)
        require(
            is_number(flip_prob) and 0 <= flip_prob <= 1,
            'ObjectBank.flip_prob',
            'a probability from 0 to 1',
            flip_prob,
            '0.5 mirrors every other object.',
        )
        require(
            is_number(max_side) and max_side >= 8,
            'ObjectBank.max_side',
            '8 pixels or more',
            max_side,
            '512 keeps almost every rare object of LVIS as it is.',
        )
        self.max_bytes = max_bytes
        self.max_class_images = max_class_images
        self.classes = classes
        self.num_objects = num_objects
        self.ratio_range = ratio_range
        self.flip_prob = flip_prob
        self.power = power
        self.max_side = int(max_side)

    def __len__(self) -> int:
        """Return the number of objects in the bank."""
        return len(self.entries)

    def prepare(self, dataset: Any) -> None:
        """Fill the bank from a dataset."""
        index = index_classes(dataset)
        images = distinct(dataset)
        labels = wanted_labels(
            'ObjectBank', index, self.classes, self.max_class_images
        )
        plans = self._plan(images, index, labels)
        require(
            len(plans) > 0,
            'Objects for ObjectBank',
            'of two pixels or more, with masks',
            f'none among {len(labels)} classes',
            'Annotate masks, or paste by box: sources=None, '
            'paste_by_box=True in SimpleCopyPaste, with_mask=False.',
        )
        self.buffer = np.empty(sum(p.num_bytes for p in plans), np.uint8)
        self.entries: list[_Entry] = []
        used = 0
        for image, info, chosen in _by_image(images, plans):
            for number in chosen:
                used += self._store(used, image, info, number)
        require(
            bool(self.entries),
            'Images of ObjectBank',
            'readable, with 8 bits per channel',
            'none',
            'Load them without to_float32.',
        )
        self.buffer = self.buffer[:used]
        self._count(index)

    def _count(self, index: ClassIndex) -> None:
        """Precompute how to draw a class and one of its objects."""
        stored = np.array([entry.label for entry in self.entries])
        self.order = np.argsort(stored, kind='stable')
        self.labels, starts = np.unique(stored[self.order], return_index=True)
        self.starts = np.append(starts, len(stored))
        count = index.num_images[self.labels]
        self.cumulative = cumulative(count ** -float(self.power))
        print_log(
            f'object bank: {len(self.entries)} objects of '
            f'{len(self.labels)} classes, {self.buffer.nbytes / 2**20:.1f} '
            'MiB',
            logger='current',
        )

    def _plan(
        self,
        images: list[tuple[int, Any, int]],
        index: ClassIndex,
        labels: np.ndarray,
    ) -> list[_Plan]:
        """Select objects, classes in turn and rarest first, until the budget
        is used."""
        order = np.random.RandomState(0)  # the same bank in every process
        rarest_first = labels[np.argsort(index.num_images[labels])]
        turns = [
            self._objects_of(
                images, order.permutation(index.images_of(label)), label
            )
            for label in rarest_first
        ]
        plans: list[_Plan] = []
        left = self.max_bytes
        while turns:
            for turn in list(turns):
                plan = next(turn, None)
                if plan is None:
                    turns.remove(turn)
                elif plan.num_bytes > left:
                    require(
                        len(plans) > 0,
                        'ObjectBank.max_bytes',
                        f'enough for an object of {plan.num_bytes} bytes',
                        self.max_bytes,
                        'Raise it.',
                    )
                    return plans
                else:
                    plans.append(plan)
                    left -= plan.num_bytes
        return plans

    def _objects_of(
        self, images: list[tuple[int, Any, int]], rows: np.ndarray, label: int
    ) -> Iterator[_Plan]:
        """Yield the objects of a class that can be pasted."""
        for row in rows:
            _, base, number = images[row]
            info = base.get_data_info(number)
            size = info['height'], info['width']
            for i, one in enumerate(info['instances']):
                if one['bbox_label'] != label or one.get('ignore_flag'):
                    continue
                mask = one.get('mask')
                crop = decode(encode(mask, *size)) if mask else None
                if crop is not None and min(crop.bitmap.shape) >= 2:
                    height, width = self._stored_size(crop)
                    area = height * width
                    yield _Plan(int(row), i, 3 * area + -(-area // 8))

    def _stored_size(self, crop: Crop) -> tuple[int, int]:
        height, width = crop.bitmap.shape
        scale = min(1, self.max_side / max(height, width))
        return max(2, round(height * scale)), max(2, round(width * scale))

    def _store(
        self, start: int, image: np.ndarray, info: dict[str, Any], number: int
    ) -> int:
        """Store one object in the buffer.

        Returns:
            Number of bytes used; 0 if it was skipped.
        """
        size = info['height'], info['width']
        runs = encode(info['instances'][number]['mask'], *size)
        crop = decode(runs)
        stored = self._stored_size(crop)
        pixels = crop.window(image)
        if pixels.shape[:2] != crop.bitmap.shape:
            return 0  # the image file is smaller than annotated
        scale = stored[0] / crop.bitmap.shape[0]
        bitmap = crop.bitmap
        if stored != bitmap.shape:
            pixels = cv2.resize(pixels, stored[::-1])
            bitmap = resize_bitmap(bitmap, stored)
        parts = np.ascontiguousarray(pixels).ravel(), np.packbits(bitmap)
        data = np.concatenate(parts)
        if start + len(data) > len(self.buffer):
            return 0  # more channels than planned
        self.buffer[start : start + len(data)] = data
        label = info['instances'][number]['bbox_label']
        self.entries.append(
            _Entry(
                start,
                pixels.shape,
                scale,
                size,
                label,
                _overlapping_labels(info, number, crop),
            )
        )
        return len(data)

    def draw(self, dataset: Any) -> Draw:
        """Return no image and no label; the bank needs no second image."""
        return [], None

    def pieces(self, height: int, width: int) -> list[Piece]:
        """Draw random objects and place them.

        Args:
            height: Height of the target image in pixels.
            width: Width of the target image in pixels.

        Returns:
            The objects; later ones cover earlier ones.
        """
        low, high = self.num_objects
        count = np.random.randint(low, high + 1)
        found = [self._jitter(height, width) for _ in range(count)]
        return [piece for piece in found if piece is not None]

    def _jitter(self, height: int, width: int) -> Piece | None:
        which = draw_index(self.cumulative)
        place = np.random.randint(self.starts[which], self.starts[which + 1])
        entry = self.entries[self.order[place]]
        ratio = np.random.uniform(*self.ratio_range)
        flips = np.random.random_sample() < self.flip_prob
        where = np.random.random_sample(2)
        fit = min(height / entry.image_size[0], width / entry.image_size[1])
        scale = ratio * fit / entry.scale
        size = tuple(max(1, round(side * scale)) for side in entry.shape[:2])
        y = round(where[0] * (height - size[0]))
        x = round(where[1] * (width - size[1]))
        pixels, bitmap = self._cut_out(entry)
        bitmap = resize_bitmap(bitmap, size)
        pixels = cv2.resize(pixels, size[::-1])
        if flips:
            pixels, bitmap = pixels[:, ::-1], bitmap[:, ::-1]
        top, left = max(0, -y), max(0, -x)  # cropped at the border
        seen = np.s_[top : top + height, left : left + width]
        crop = tighten(x + left, y + top, bitmap[seen])
        if not crop.bitmap.size:
            return None
        pixels = Crop(crop.x - x, crop.y - y, crop.bitmap).window(pixels)
        return Piece(
            crop,
            pixels,
            np.array(crop.box, np.float32),
            entry.label,
            entry.overlapping_labels,
        )

    def _cut_out(self, entry: _Entry) -> tuple[np.ndarray, np.ndarray]:
        middle = entry.start + int(np.prod(entry.shape))
        area = entry.shape[0] * entry.shape[1]
        pixels = self.buffer[entry.start : middle].reshape(entry.shape)
        packed = self.buffer[middle : middle + -(-area // 8)]
        bitmap = np.unpackbits(packed, count=area)
        return pixels, bitmap.reshape(entry.shape[:2])


def resize_bitmap(bitmap: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize a bitmap as MMDetection resizes masks."""
    rows = nearest(bitmap.shape[0], size[0])
    columns = nearest(bitmap.shape[1], size[1])
    return bitmap[rows][:, columns]


def _overlapping_labels(
    info: dict[str, Any], number: int, crop: Crop
) -> tuple[int, ...]:
    """Return labels of other objects whose masks overlap an object's mask."""
    if not {NEGATIVE, NOT_EXHAUSTIVE} & info.keys():
        return ()  # no federated labels
    size = info['height'], info['width']
    union = np.zeros(size, np.uint8)
    crop.window(union)[...] = crop.bitmap
    others = [
        (decode(encode(one['mask'], *size)), one['bbox_label'])
        for i, one in enumerate(info['instances'])
        if i != number and one.get('mask')
    ]
    seen = visible_parts([other for other, _ in others], union)
    return tuple(sorted({int(others[i][1]) for i in seen}))


def _by_image(
    images: list[tuple[int, Any, int]], plans: list[_Plan]
) -> Iterator[tuple[np.ndarray, dict[str, Any], list[int]]]:
    """Yield each image once, with its record and the objects to take from
    it."""
    wanted: dict[int, list[int]] = {}
    for plan in plans:
        wanted.setdefault(plan.row, []).append(plan.number)
    progress = track(
        sorted(wanted),
        'object bank',
        console=Console(stderr=True),
        transient=True,
        disable=not is_main_process(),
    )
    for row in progress:
        _, base, number = images[row]
        info = base.get_data_info(number)
        loaded = _loader(base)(dict(img_path=info['img_path']))
        if loaded is not None and loaded['img'].dtype == np.uint8:
            yield np.atleast_3d(loaded['img']), info, wanted[row]


def _loader(dataset: Any) -> Any:
    """Return the dataset's own image loader."""
    for transform in transforms_of(dataset):
        if type(transform).__name__.startswith('LoadImage'):
            return transform
    return TRANSFORMS.build(dict(type='LoadImageFromFile'))


def _check_range(
    name: str, pair: Any, least: float, *, whole: bool = False
) -> None:
    good = (
        isinstance(pair, (tuple, list))
        and len(pair) == 2
        and all(isinstance(x, int) if whole else is_number(x) for x in pair)
        and least <= pair[0] <= pair[1]
    )
    require(
        good,
        f'ObjectBank.{name}',
        f'two {"whole " if whole else ""}numbers from {least:g} on, the '
        'smaller first',
        pair,
        'Correct it.',
    )
