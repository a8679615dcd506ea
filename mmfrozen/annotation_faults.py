"""Validate every entry of a COCO or LVIS annotation file.

A fault is reported with the id of its entry, instead of as a crash or a wrong
result later.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, compress
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mask_crops import rle_lengths

#: Largest id that fits into int64; JavaScript loses digits above 2**53.
MAX_ID = 2**63 - 1
#: Largest polygon coordinate in pixels: beyond it, rasterizing takes gigabytes
#: or crashes.
MAX_COORDINATE = 1e6
#: Number of annotations of each kind that are kept as examples.
EXAMPLES = 3
IDS = ('id', 'image_id', 'category_id')
#: Function that returns the required fields of an annotation.
_columns = itemgetter(*IDS, 'bbox', 'area')
#: Reasons for which MMDetection silently drops annotations, and their wording
#: in a sentence.
DROPPED = {
    'area of 0 or less': 'of area 0 or less',
    'box less than a pixel wide or high': (
        'with a box less than a pixel wide or high'
    ),
    'box outside of the image': 'with a box outside of the image',
}


class Fault(NamedTuple):
    """A fault of an annotation file that would lead to wrong results.

    Attributes:
        kind: Short name, the same for all faults of a kind.
        where: The entry, such as ``annotation 17`` or ``image 3``.
        required: The requirement that is not met.
        got: The value found.
    """

    kind: str
    where: str
    required: str
    got: Any

    @property
    def shown(self) -> str:
        """The value found, as text."""
        return self.got if isinstance(self.got, str) else repr(self.got)

    def line(self, source: str) -> str:
        """Return the fault as a one-line error message."""
        got = self.shown
        got = got if len(got) < 120 else f'{got[:117]}...'
        return (
            f'{self.where} of {source!r} must have {self.required}, got '
            f'{got}. Correct the file; `mmfrozen check` lists all faults.'
        )


class FaultyAnnotationsError(ValueError):
    """Error of an annotation file that has a fault."""


class AnnotationValidator:
    """Validator of an annotation file, one chunk of annotations at a time.

    Args:
        images: Image entries of the file.
        categories: Category entries of the file.

    Attributes:
        dropped: Number of annotations that MMDetection drops, by the keys of
            ``DROPPED``.
        left_out: The first ``EXAMPLES`` of them, by the same keys.
        objects: Number of annotations that MMDetection trains on.
        without_mask: Ids of the first ten annotations that it keeps and that
            have no mask.
        crowds: Number of crowd regions, which it ignores.
    """

    def __init__(
        self,
        images: Sequence[Mapping[str, Any]],
        categories: Sequence[Mapping[str, Any]],
    ) -> None:
        self._images, self._categories = images, categories
        self._sizes: dict[int, tuple[float, float]] = {}  # by image id
        self._category_ids: set[int] = set()
        self._ids: set[int] = set()
        self.dropped: Counter[str] = Counter()
        self.left_out: dict[str, list[Any]] = defaultdict(list)
        self.objects = self.crowds = 0
        self.without_mask: list[int] = []

    def describe(self) -> str:
        """Summarize how many annotations are trained on and dropped."""
        parts = [f'{self.objects:,} objects', f'{self.crowds:,} crowds']
        parts += [f'{n:,} {DROPPED[k]}' for k, n in self.dropped.items() if n]
        left_out = ', which MMDetection ignores'
        return ', '.join(parts) + left_out * bool(self.dropped.total())

    def header(self) -> Iterator[Fault]:
        """Yield the faults of images and categories."""
        for kind, entries in (
            ('image', self._images),
            ('category', self._categories),
        ):
            seen: set[int] = set()
            for place, entry in enumerate(entries):
                number = entry.get('id')
                where = f'{kind} {number!r:.80} at position {place}'
                if not is_id(number):
                    yield Fault(f'{kind} id', where, ID, number)
                    continue
                if number in seen:
                    yield Fault(
                        f'{kind} id twice', where, 'a unique id', number
                    )
                seen.add(number)
                check = self._image if kind == 'image' else self._category
                yield from check(entry, f'{kind} {number}')

    def _image(self, entry: Mapping[str, Any], where: str) -> Iterator[Fault]:
        size = entry.get('width'), entry.get('height')
        fits = all(_is_finite(x) and x > 0 for x in size)
        self._sizes[entry['id']] = size if fits else (math.inf, math.inf)
        if not fits:
            yield Fault(
                'image size', where, 'a width and height in pixels', size
            )

    def _category(
        self, entry: Mapping[str, Any], where: str
    ) -> Iterator[Fault]:
        self._category_ids.add(entry['id'])
        if not isinstance(entry.get('name'), str):
            yield Fault(
                'category name', where, 'a name', repr(entry.get('name'))
            )

    def annotations(
        self, chunk: Sequence[Mapping[str, Any]]
    ) -> Iterator[Fault]:
        """Yield the faults of some annotations, after :meth:`header`.

        Vectorised checks cover the whole chunk; its annotations are checked
        one by one only if these fail.
        """
        shapes = [entry.get('segmentation') for entry in chunk]
        if chunk and not self._are_usual(chunk, shapes):
            for entry, shape in zip(chunk, shapes, strict=True):
                if not self._are_usual([entry], [shape]):
                    yield from self._annotation(entry)
        if not are_polygons(chain.from_iterable(filter(None, shapes))):
            for entry, shape in zip(chunk, shapes, strict=True):
                if shape and not (
                    isinstance(shape, list) and are_polygons(shape)
                ):
                    yield from self._segmentation(entry, shape)

    def _are_usual(
        self, chunk: Sequence[Mapping[str, Any]], shapes: Sequence[Any]
    ) -> bool:
        try:
            columns = tuple(zip(*map(_columns, chunk), strict=True))
            ids, images, categories, boxes, areas = columns
            numbers = [*chain.from_iterable(boxes), *areas]
            table = np.array(numbers, np.float64)
            own = set(ids)
            keys = np.array([ids, images], np.int64)
            rows, listed = locate(self._image_ids, keys[1])
            usual = (
                set(categories) <= self._category_ids
                and set(map(type, ids + images + categories)) <= {int}
                and set(map(len, boxes)) <= {4}
                and set(map(type, numbers)) <= {int, float}
                and np.isfinite(table).all()
                and len(own) == len(chunk)
                and own.isdisjoint(self._ids)
                and keys.min() >= 0
                and listed.all()
            )
        except (KeyError, OverflowError, TypeError, ValueError):
            return False
        if not usual:
            return False
        self._ids |= own
        left = self._count(chunk, table, rows)
        if len(self.without_mask) < 10 and not all(shapes):
            bare = [x['id'] for x in compress(chunk, left) if has_no_mask(x)]
            self.without_mask += bare[: 10 - len(self.without_mask)]
        return True

    @cached_property
    def _image_ids(self) -> np.ndarray:
        return np.array(sorted(self._sizes), np.int64)

    @cached_property
    def _size_table(self) -> np.ndarray:
        sizes = [self._sizes[i] for i in self._image_ids.tolist()]
        return np.array(sizes, np.float64)

    def _count(
        self,
        chunk: Sequence[Mapping[str, Any]],
        table: np.ndarray,
        rows: np.ndarray,
    ) -> np.ndarray:
        """Count the annotations that MMDetection trains on and drops.

        Returns:
            (number,) bool, True for annotations that MMDetection keeps.
        """
        number = len(chunk)
        x, y, w, h = table[: 4 * number].reshape(-1, 4).T
        width, height = self._size_table[rows].T
        left = np.ones(number, bool)
        for reason, applies in zip(
            DROPPED,
            (
                table[4 * number :] <= 0,
                (w < 1) | (h < 1),
                (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0),
            ),
            strict=True,
        ):
            applies &= left
            if applies.any():
                self.dropped[reason] += int(applies.sum())
                self.left_out[reason] += compress(chunk, applies)
                del self.left_out[reason][EXAMPLES:]
                left &= ~applies
        crowds = [bool(x.get('iscrowd') or x.get('ignore')) for x in chunk]
        ignored = int((left & np.array(crowds)).sum())
        self.crowds += ignored
        self.objects += int(left.sum()) - ignored
        return left

    def _annotation(self, entry: Mapping[str, Any]) -> Iterator[Fault]:
        where = f'annotation {entry.get("id")!r:.80}'
        for key in IDS:
            if not is_id(entry.get(key)):
                got = repr(entry[key]) if key in entry else 'none'
                yield Fault(f'annotation {key}', where, f'{key}: {ID}', got)
        number = entry.get('id')
        if is_id(number):
            if number in self._ids:
                yield Fault(
                    'annotation id twice', where, 'a unique id', number
                )
            self._ids.add(number)
        for key, known in (
            ('image_id', self._sizes.keys()),
            ('category_id', self._category_ids),
        ):
            if is_id(entry.get(key)) and entry[key] not in known:
                yield Fault(
                    f'{key} not listed',
                    where,
                    f'the {key} of a listed entry',
                    f'{key} {entry[key]}',
                )
        box = entry.get('bbox')
        if (
            not isinstance(box, (list, tuple))
            or len(box) != 4
            or not all(map(_is_finite, box))
        ):
            yield Fault(
                'bbox', where, 'bbox: x, y, width, height in pixels', box
            )
        area = entry.get('area')
        if not _is_finite(area):
            yield Fault('area', where, 'area: square pixels', area)

    def _segmentation(
        self, entry: Mapping[str, Any], shape: Any
    ) -> Iterator[Fault]:
        where = f'annotation {entry.get("id")!r:.80}'
        if isinstance(shape, list):
            yield Fault(
                'polygon',
                where,
                'segmentation: lists of x, y, x, y, ... within '
                f'{MAX_COORDINATE:.0e} pixels',
                shape,
            )
            return
        if not isinstance(shape, Mapping) or 'counts' not in shape:
            yield Fault('segmentation', where, 'polygons or an RLE', shape)
            return
        image_id = entry.get('image_id')
        size = self._sizes.get(image_id) if is_id(image_id) else None
        if size is None or math.inf in size:
            return  # already reported as a fault
        width, height = size
        if shape.get('size') != [height, width]:
            wanted = f'an RLE of the size of its image, {[height, width]}'
            yield Fault('RLE size', where, wanted, shape.get('size'))
            return
        total = _total(shape['counts'])
        if total != height * width:
            wanted = f'RLE counts that sum up to {height * width}'
            got = shape['counts'] if total is None else total
            yield Fault('RLE length', where, wanted, got)


def locate(
    known: NDArray[np.int64], ids: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the positions of ids in sorted ids, and which were found."""
    if not len(known):
        return np.zeros(len(ids), np.int32), np.zeros(len(ids), bool)
    positions = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return positions.astype(np.int32), known[positions] == ids


def _total(counts: Any) -> int | None:
    """Return the number of pixels of an RLE; None if it is malformed."""
    if isinstance(counts, str):
        try:
            lengths = rle_lengths(counts.encode('ascii')).tolist()
        except ValueError:
            return None
    elif isinstance(counts, list):
        lengths = counts
    else:
        return None
    if not all(type(x) is int and x >= 0 for x in lengths):
        return None
    return sum(lengths)


def are_polygons(shapes: Iterable[Any]) -> bool:
    """Return whether all shapes are polygons that can be rasterized."""
    try:
        for polygon in shapes:
            if not math.hypot(*polygon) < MAX_COORDINATE and not (
                min(polygon) >= -MAX_COORDINATE
                and max(polygon) <= MAX_COORDINATE
                and sum(polygon) < math.inf  # not NaN
            ):
                return False
    except (OverflowError, TypeError, ValueError):  # not numbers, or an RLE
        return False
    return True


ID = f'a whole number from 0 to {MAX_ID}'


def has_no_mask(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotation has no mask."""
    return not annotation.get('segmentation')


def is_id(value: Any) -> bool:
    """Return whether a value is a valid id."""
    return type(value) is int and 0 <= value <= MAX_ID


def _is_finite(value: Any) -> bool:
    """Return whether a value is an int or float, and finite as a float."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def is_outside(name: str, folder: str) -> bool:
    """Return whether the path of an image leaves its folder.

    Only the text of the path is checked: symbolic links in the folder are
    trusted. ``..`` always counts as outside, since links decide where it
    leads.

    Args:
        name: ``file_name`` of an image, with slashes or backslashes.
        folder: Folder that it is joined to. Absolute names may lie in it.
    """
    path = name.replace('\\', '/')
    if '..' in path.split('/'):
        return True
    if not path.startswith('/'):
        return False
    within = os.path.abspath(folder).rstrip('/') + '/'
    return not os.path.normpath(path).startswith(within)


def raise_first_fault(faults: Iterable[Fault], source: str) -> None:
    """Raise an error for the first fault of a file.

    Raises:
        FaultyAnnotationsError: If there is one.
    """
    for fault in faults:
        raise FaultyAnnotationsError(fault.line(source))
