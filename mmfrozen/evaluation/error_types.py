"""Classify false detections by the error types of TIDE.

The types are those of Bolya et al., "TIDE: A General Toolbox for Identifying
Object Detection Errors" (ECCV 2020), at IoU 0.5, tested in the order of the
authors' code. In LVIS's protocol only judged detections can be errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .greedy import IOU_THRESHOLDS, Overlaps

#: Least IoU at which a detection overlaps an object, and at which it fits it.
BACKGROUND, FITS = 0.1, float(IOU_THRESHOLDS[0])
#: Types in the order of their numbers, from 1; 0 is no error. Miss is an error
#: of an annotation, the others are errors of detections.
TYPES = {
    'Cls': 'fits an object of another class',
    'Loc': 'overlaps an object of its class too little',
    'Both': 'overlaps an object of another class too little',
    'Dupe': 'duplicates a better detection of the same object',
    'Bkg': 'overlaps no object',
    'Miss': 'object that no detection has found, and that explains no Loc or '
    'Cls',
}
CLS, LOC, BOTH, DUPE, BKG, MISS = range(1, len(TYPES) + 1)

Errors = tuple[NDArray[np.int8], NDArray[np.int32]]


def classify(
    overlaps: Overlaps,
    categories: NDArray[np.int32],
    gt_categories: NDArray[np.int32],
) -> Errors:
    """Find the error type of detections that are false at IoU 0.5.

    Args:
        overlaps: Overlaps of at least ``BACKGROUND`` with the counted
            annotations of the same image.
        categories: (N,) categories of the detections.
        gt_categories: (G,) categories of the annotations.

    Returns:
        (N,) types, and (N,) positions of the annotations to which errors of
        the types Cls and Loc are attributed; -1 for the other types.
    """
    number = len(categories)
    is_own = (
        categories[overlaps.detections] == gt_categories[overlaps.annotations]
    )
    own, own_target = _best(overlaps, is_own, number)
    other, other_target = _best(overlaps, ~is_own, number)
    is_type = [
        (own >= BACKGROUND) & (own <= FITS),
        other >= FITS,
        own > FITS,
        other <= BACKGROUND,
    ]
    types = np.select(is_type, [LOC, CLS, DUPE, BKG], BOTH).astype(np.int8)
    targets = np.where(types == LOC, own_target, -1)
    return types, np.where(types == CLS, other_target, targets)


def _best(
    overlaps: Overlaps, keep: NDArray[np.bool_], number: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the highest IoU of each detection and its annotation, both (N,).

    Without an overlap they are 0 and -1.
    """
    d = overlaps.detections[keep]
    g = overlaps.annotations[keep]
    ious = overlaps.ious[keep]
    order = np.lexsort((g, -ious, d))
    first = order[np.flatnonzero(np.diff(d[order], prepend=-1))]
    best = np.zeros(number)
    target = np.full(number, -1, np.int32)
    best[d[first]] = ious[first]
    target[d[first]] = g[first]
    return best, target
