"""Match greedily as the official packages do, for many images at once.

The official packages loop over images, categories, areas, thresholds,
detections and annotations in Python. The order matters only within an image
and category. So here the first detections of all images and categories are
matched together, then the second ones, and so on, each for ten thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

from .masks import Masks

#: IoU thresholds .50:.05:.95 (10,), as both official packages have them.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Ranges of area in square pixels, bounds included.
AREAS = {
    'all': (0.0, 1e5**2),
    'small': (0.0, 32.0**2),
    'medium': (32.0**2, 96.0**2),
    'large': (96.0**2, 1e5**2),
}
#: Number of box pairs that are compared at a time.
PAIRS = 1 << 20
#: Number of groups (image and category) whose masks are decoded at a time.
GROUPS = 4096
#: Number of mask pairs up to which hotcoco is faster than pycocotools.
FEW_PAIRS = 32

BITS = (1 << np.arange(len(IOU_THRESHOLDS))).astype(np.uint16)


@dataclass(frozen=True)
class Overlaps:
    """Pairs of detections and annotations with at least a given IoU.

    Attributes:
        detections: (P,) position of the detection.
        annotations: (P,) position of the annotation.
        ious: (P,) IoU of the pair.
    """

    detections: NDArray[np.int64]
    annotations: NDArray[np.int64]
    ious: NDArray[np.float64]


def box_overlaps(
    boxes: NDArray[np.float64],
    gt_boxes: NDArray[np.float64],
    is_crowd: NDArray[np.bool_],
    groups: NDArray[np.int64],
    least: float = IOU_THRESHOLDS[0],
) -> Overlaps:
    """Compute the IoU of boxes, with the arithmetic of pycocotools.

    Args:
        boxes: (N, 4) x, y, width, height of the detections.
        gt_boxes: (G, 4) x, y, width, height of the annotations.
        is_crowd: (G,) whether an annotation is a crowd; its overlap is
            relative to the area of the detection.
        groups: (S, 4) from :func:`pair_groups`.
        least: Least IoU of the pairs that are kept.
    """
    parts = []
    total = np.cumsum(groups[:, 1] * groups[:, 3])
    cuts = np.flatnonzero(np.diff(total // PAIRS)) + 1
    for chunk in np.split(groups, cuts):
        d, g = _all_pairs(chunk)
        a, b = boxes[d], gt_boxes[g]
        low = np.maximum(a[:, :2], b[:, :2])
        high = np.minimum(a[:, 2:] + a[:, :2], b[:, 2:] + b[:, :2])
        sides = high - low
        shared = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], 0)
        area = a[:, 2] * a[:, 3]
        union = np.where(is_crowd[g], area, area + b[:, 2] * b[:, 3] - shared)
        ious = np.divide(
            shared, union, out=np.zeros_like(shared), where=shared > 0
        )
        parts.append(_keep(d, g, ious, least))
    return _join(parts)


def mask_overlaps(
    masks: Masks,
    order: NDArray[np.int64],
    gt_masks: dict[int, dict[str, Any]],
    is_crowd: NDArray[np.bool_],
    groups: NDArray[np.int64],
    least: float = IOU_THRESHOLDS[0],
) -> Overlaps:
    """Compute the IoU of RLE masks, see :func:`box_overlaps`.

    Args:
        masks: Masks of all detections.
        order: (N,) positions in ``masks``.
        gt_masks: RLE of the annotations in groups, by position.
        is_crowd: (G,) whether an annotation is a crowd.
        groups: (S, 4) from :func:`pair_groups`.
        least: Least IoU of the pairs that are kept.
    """
    parts = []
    few, many = hotcoco.primitives.mask_iou, mask_utils.iou
    for begin in range(0, len(groups), GROUPS):
        chunk = groups[begin : begin + GROUPS]
        used = ranges(chunk[:, 0], chunk[:, 1])
        rles = masks.rles(order[used])
        tables = []
        end = 0
        for _, num_d, g0, num_g in chunk.tolist():
            compare = few if num_d * num_g <= FEW_PAIRS else many
            ious = compare(
                rles[end : end + num_d],
                [gt_masks[g] for g in range(g0, g0 + num_g)],
                is_crowd[g0 : g0 + num_g].tolist(),
            )
            tables.append(ious.ravel())
            end += num_d
        ious = np.concatenate(tables)
        parts.append(_keep(*_all_pairs(chunk), ious, least))
    return _join(parts)


def pair_groups(
    keys: NDArray[np.int64], gt_keys: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find the groups (image and category) with detections and annotations.

    Args:
        keys: (N,) key of the group of each detection, sorted.
        gt_keys: (G,) key of the group of each annotation, sorted.

    Returns:
        (S, 4): first detection, number of detections, first annotation,
        number of annotations.
    """
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    lengths = np.diff(begins, append=len(keys))
    gt_begins, gt_ends = (
        np.searchsorted(gt_keys, keys[begins], side=side)
        for side in ('left', 'right')
    )
    groups = np.stack(
        [begins, lengths, gt_begins, gt_ends - gt_begins], axis=1
    )
    return groups[groups[:, 3] > 0]


def assign(
    overlaps: Overlaps,
    rounds: NDArray[np.int64],
    gt_ignored: NDArray[np.bool_],
    is_crowd: NDArray[np.bool_],
    num_detections: int,
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int32]]:
    """Match each detection, best score first, to the best free annotation.

    Counted annotations are preferred to ignored ones; of equal overlaps the
    later annotation is taken. A crowd can be matched repeatedly.

    Args:
        overlaps: Overlaps of detections sorted by group and falling score.
        rounds: (P,) from :func:`rounds_of`.
        gt_ignored: (G,) whether an annotation is ignored in one area range.
        is_crowd: (G,) whether an annotation is a crowd.
        num_detections: Number of detections, N.

    Returns:
        Three arrays (N,): bits of the thresholds at which a detection
        matched, bits of those at which it matched an ignored annotation, and
        the annotation matched at the first threshold; -1 for none.
    """
    found = np.full(num_detections, -1, np.int32)
    matched = np.zeros(num_detections, np.uint16)
    to_ignored = np.zeros(num_detections, np.uint16)
    d, g = overlaps.detections, overlaps.annotations
    # preferred pairs of a detection first: not ignored, higher IoU, later
    # annotation
    order = np.lexsort((-g, -overlaps.ious, gt_ignored[g], d, rounds))
    d, g, ious, rounds = (x[order] for x in (d, g, overlaps.ious, rounds))
    fits = ious >= IOU_THRESHOLDS[:, None]  # (10, P)
    free = np.ones((len(IOU_THRESHOLDS), len(gt_ignored)), bool)
    ends = np.searchsorted(rounds, np.arange(rounds.max(initial=-1) + 2))
    for begin, end in zip(ends[:-1], ends[1:], strict=True):
        now = slice(begin, end)
        starts = np.flatnonzero(np.diff(d[now], prepend=-1))
        places = np.arange(end - begin)
        open_ = fits[:, now] & free[:, g[now]]
        first = np.minimum.reduceat(
            np.where(open_, places, end - begin), starts, axis=1
        )  # (10, detections of this round)
        t, column = np.nonzero(first < end - begin)
        taken = begin + first[t, column]
        free[t, g[taken]] = is_crowd[g[taken]]
        np.bitwise_or.at(matched, d[taken], BITS[t])
        first_taken = taken[t == 0]
        found[d[first_taken]] = g[first_taken]
        lost = gt_ignored[g[taken]]
        np.bitwise_or.at(to_ignored, d[taken[lost]], BITS[t[lost]])
    return matched, to_ignored, found


def rounds_of(
    detections: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rank of each pair's detection in its group, (P,).

    Only detections that overlap an annotation are ranked.
    """
    listed = np.unique(detections)
    firsts = np.searchsorted(listed, groups[:, 0])
    group = np.searchsorted(groups[:, 0], listed, side='right') - 1
    place = np.arange(len(listed)) - firsts[group]
    return place[np.searchsorted(listed, detections)]


def _all_pairs(
    groups: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs of detections and annotations within the groups."""
    counts = groups[:, 1] * groups[:, 3]
    group = np.repeat(np.arange(len(groups)), counts)
    place = ranges(np.zeros_like(counts), counts)
    d0, _, g0, num_g = groups[group].T
    return d0 + place // num_g, g0 + place % num_g  # (P,), (P,)


def ranges(
    begins: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the concatenated integers of several ranges."""
    shift = begins - (np.cumsum(lengths) - lengths)
    return np.arange(lengths.sum()) + np.repeat(shift, lengths)


def _keep(
    d: NDArray[np.int64],
    g: NDArray[np.int64],
    ious: NDArray[np.float64],
    least: float,
) -> Overlaps:
    keep = ious >= least
    return Overlaps(d[keep], g[keep], ious[keep])


def _join(parts: list[Overlaps]) -> Overlaps:
    return Overlaps(
        np.concatenate(
            [np.empty(0, np.int64), *(x.detections for x in parts)]
        ),
        np.concatenate(
            [np.empty(0, np.int64), *(x.annotations for x in parts)]
        ),
        np.concatenate([np.empty(0), *(x.ious for x in parts)]),
    )
