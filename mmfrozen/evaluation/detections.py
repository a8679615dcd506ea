"""Store the detections of an evaluation as arrays instead of dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

from .masks import Masks

KEYS = ('image_id', 'category_id', 'score')
#: Function that takes image ids (N,) and category ids (N,) and returns whether
#: each mask is needed, (N,) bool.
IsNeeded = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class DetectionArrays:
    """N detections, in the order in which the detector returned them.

    Attributes:
        image_ids: (N,) int64, ids of the annotation file.
        category_ids: (N,) int64, ids of the annotation file.
        scores: (N,) float64.
        boxes: (N, 4) float64 as x, y, width, height in pixels; None where
            only masks are compared.
        masks: N masks; None without masks.
        mask_scores: (N,) float64, where masks have their own scores; None
            where ``scores`` apply to both.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64] | None
    masks: Masks | None = None
    mask_scores: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_dicts(
        cls,
        results: Iterable[Mapping[str, Any]],
        *,
        kind: str | None = None,
        is_needed: IsNeeded | None = None,
        first: int = 0,
    ) -> DetectionArrays:
        """Read COCO result dicts.

        Args:
            results: Dicts with ``image_id``, ``category_id``, ``score`` and
                ``bbox`` (x, y, width, height), ``segmentation`` (RLE), or
                both; all with the same keys.
            kind: ``'bbox'`` or ``'segm'`` to read only boxes or only masks
                of results that have both; None to read both.
            is_needed: Function that selects the masks to read; None for all.
            first: Position of the first result in its file, for messages.

        Raises:
            ValueError: If a dict lacks a key or has a value of another kind.
        """
        results = list(results)
        if not results:
            return cls.join([])
        keys = result_keys(results[0], kind)
        try:
            images = _column(results, 'image_id', np.int64)
            categories = _column(results, 'category_id', np.int64)
            scores = _column(results, 'score', np.float64)
            boxes = masks = None
            if 'segmentation' in keys:
                found = [x['segmentation'] for x in results]
                wanted = np.ones(len(results), bool)
                if is_needed is not None:
                    wanted = is_needed(images, categories)
                masks = Masks.from_rles(
                    list(compress(found, wanted.tolist())), wanted
                )
                if kind != 'segm' and 'bbox' not in keys:
                    boxes = mask_utils.toBbox(found)
            if 'bbox' in keys:
                boxes = _boxes(results)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                'Each result must be a dict with image_id, category_id, '
                'score (numbers) and bbox (x, y, width, height) or '
                'segmentation (compressed RLE), got '
                f'{_first_bad(results, keys, first)} ({type(error).__name__}'
                f': {error}). Correct the results.'
            ) from error
        return cls(images, categories, scores, boxes, masks)

    @classmethod
    def join(cls, parts: Sequence[DetectionArrays]) -> DetectionArrays:
        """Concatenate detections; all parts have masks, or none has.

        Empty parts can be joined with either.
        """
        parts = [part for part in parts if len(part)]

        def column(name: str, kind: Any, *width: int) -> Any:
            values = [getattr(part, name) for part in parts]
            if any(value is None for value in values):
                return None
            return np.concatenate([np.empty((0, *width), kind), *values])

        masks = [part.masks for part in parts]
        return cls(
            column('image_ids', np.int64),
            column('category_ids', np.int64),
            column('scores', np.float64),
            column('boxes', np.float64, 4),
            None if None in masks else Masks.join(masks),  # type: ignore
            column('mask_scores', np.float64) if parts else None,
        )


def _column(
    results: Sequence[Mapping[str, Any]], key: str, kind: Any
) -> NDArray[Any]:
    values = list(map(itemgetter(key), results))
    if kind is np.int64 and set(map(type, values)) - {int}:
        for value in values:  # 1.0 is an id that was stored as a float
            exact = isinstance(value, float) and abs(value) <= 2**53
            if type(value) is not int and not (exact and value == int(value)):
                raise ValueError(
                    f'{key} {value!r}, which is not a whole number'
                )
    return np.fromiter(values, kind, len(values))


def _boxes(results: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return boxes (N, 4), several times faster than ``np.array``."""
    boxes = [x['bbox'] for x in results]
    if set(map(len, boxes)) != {4}:
        raise ValueError('a bbox that has not 4 numbers')
    numbers = chain.from_iterable(boxes)
    return np.fromiter(numbers, np.float64, 4 * len(boxes)).reshape(-1, 4)


def result_keys(
    result: Mapping[str, Any], kind: str | None = None
) -> tuple[str, ...]:
    """Return the keys to read from a result with a box, a mask or both."""
    if not isinstance(result, Mapping):
        return (*KEYS, 'bbox')
    has_mask = isinstance(result.get('segmentation'), Mapping)
    # pycocotools treats an empty box as no box
    has_box = bool(result.get('bbox')) or not has_mask
    if has_mask and has_box and kind is not None:
        has_mask, has_box = kind == 'segm', kind == 'bbox'
    extra = ('bbox',) * has_box + ('segmentation',) * has_mask
    return (*KEYS, *extra)


def _first_bad(
    results: Sequence[Mapping[str, Any]], keys: Sequence[str], first: int
) -> str:
    """Describe the first result that lacks a key, else the first result."""
    for index, result in enumerate(results, first):
        if not isinstance(result, Mapping):
            return f'{result!r} at position {index}'
        missing = [key for key in keys if key not in result]
        if missing:
            return f'one without {missing[0]} at position {index}'
    return repr({k: results[0][k] for k in keys if k != 'segmentation'})
