"""Compute AP of many categories, thresholds and resamples at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .greedy import IOU_THRESHOLDS

NUM_THRESHOLDS = len(IOU_THRESHOLDS)
ALL_BITS = (1 << NUM_THRESHOLDS) - 1
#: The recalls at which precision is read: 0, 0.01, ... 1.
STEPS = 101
#: Maximum number of elements of an intermediate table: a table that fits into
#: the CPU cache is averaged twice as fast.
TABLE = 1 << 17
#: Least number of resamples at a time, even if the table becomes larger.
FEW = 8


def average_precision(
    categories: NDArray[np.int32],
    images: NDArray[np.int32],
    matched: NDArray[np.uint16],
    ignored: NDArray[np.uint16],
    num_gt: NDArray[np.float64],
    weights: NDArray[np.integer] | None,
    thresholds: range = range(NUM_THRESHOLDS),
) -> NDArray[np.float64]:
    """Return the AP of each category on each resample of the images.

    Precision at a recall is the highest precision at this recall or above, as
    in the official packages. A detection in an image of weight w counts w
    times in a row.

    Args:
        categories: (N,) categories of the detections, ascending; within a
            category, detections are sorted by falling score.
        images: (N,) images of the detections.
        matched: (N,) bit t is set if the detection matched at threshold t.
        ignored: (N,) bit t is set if the detection is neither a true nor a
            false positive at threshold t.
        num_gt: (B, num_categories) number of counted annotations.
        weights: (B, num_images) weights of the images; None for 1.
        thresholds: Indices of the IoU thresholds to average over.

    Returns:
        (B, num_categories) as fractions of 1; NaN without ground truth.
    """
    true, false = matched & ~ignored, ~matched & ~ignored & ALL_BITS
    # detections that are false or ignored at all thresholds need no row
    is_key = (true > 0) | ((false > 0) & (false < ALL_BITS))
    times = None
    if weights is not None:
        times = np.ascontiguousarray(weights.T, np.int32)
    result = np.zeros(num_gt.shape)
    for low, high in _category_chunks(categories, is_key, len(num_gt)):
        rows = slice(*np.searchsorted(categories, [low, high]))
        keys = np.flatnonzero(is_key[rows])
        step = max(TABLE // max(len(keys), 1), FEW)
        for begin in range(0, len(num_gt), step):
            some = slice(begin, begin + step)
            result[some, low:high] = _chunk_precision(
                categories[rows] - low,
                images[rows],
                true[rows],
                false[rows],
                keys,
                num_gt[some, low:high].T,
                None if times is None else times[:, some],
                thresholds,
                level=low,
            ).T
    result[num_gt == 0] = np.nan
    return result


def _category_chunks(
    categories: NDArray[np.int32],
    is_key: NDArray[np.bool_],
    resamples: int,
) -> Iterator[tuple[int, int]]:
    """Yield ranges (first, end) of categories whose tables stay small."""
    if not len(categories):
        return
    rows = np.bincount(categories, is_key)
    chunk = np.cumsum(rows * resamples) // TABLE
    starts = np.flatnonzero(np.diff(chunk, prepend=-1)).tolist()
    yield from zip(starts, [*starts[1:], len(rows)], strict=True)


def _chunk_precision(
    categories: NDArray[np.int32],
    images: NDArray[np.int32],
    true: NDArray[np.uint16],
    false: NDArray[np.uint16],
    keys: NDArray[np.int64],
    num_gt: NDArray[np.float64],
    times: NDArray[np.int32] | None,
    thresholds: range,
    level: int,
) -> NDArray[np.float64]:
    """Return the AP of a range of categories, (num_categories, B).

    Args:
        categories, images, true, false: (N,) columns of the detections.
        keys: (keys,) positions of detections with a row in the tables.
        num_gt: (num_categories, B) number of counted annotations.
        times: (num_images, B) weights of the images; None for 1.
        thresholds: Indices of the IoU thresholds to average over.
        level: Position of the first category among all categories.
    """
    result = np.zeros(num_gt.shape)
    if not len(keys):
        return result
    owners = categories[keys]
    own = _own_weights(images[keys], times)
    total = _false_before(keys, categories, images, false, times)
    total += own
    total = _cumulate(total, *_segments(owners)[:2])
    for t in thresholds:
        rows = np.flatnonzero(true[keys] >> t & 1)
        if not len(rows):
            continue
        starts, lengths, present = _segments(owners[rows])
        hits = _cumulate(own[rows], starts, lengths)
        counted = total[rows]  # all detections up to this one
        ignored = np.flatnonzero(~(true[keys] | false[keys]) >> t & 1)
        if len(ignored):
            counted -= _ignored_before(own, owners, ignored, rows)
        result[present] += _area(
            hits, counted, num_gt[present], (starts, lengths, present + level)
        )
    return result / len(thresholds)


Segments = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def _segments(owners: NDArray[np.integer]) -> Segments:
    """Return start, length and value of each run of equal numbers."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    lengths = np.diff(starts, append=len(owners))
    return starts, lengths, owners[starts]


def _cumulate(
    values: NDArray[np.int32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Compute the cumulative sum of rows within each segment, in place.

    The int32 sum over all segments may overflow; the differences within a
    segment are correct all the same.
    """
    np.cumsum(values, axis=0, dtype=values.dtype, out=values)
    before = values[starts - 1]
    before[0] = 0
    values -= np.repeat(before, lengths, axis=0)
    return values


def _ignored_before(
    own: NDArray[np.int32],
    owners: NDArray[np.integer],
    ignored: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Sum the weights of ignored keys of the same category before each row.

    Args:
        own: (keys, B) weights of the keys.
        owners: (keys,) categories of the keys.
        ignored: Positions of the ignored keys.
        rows: (rows,) positions of keys.

    Returns:
        (rows, B) sums of weights.
    """
    table = np.zeros((len(ignored) + 1, own.shape[1]), own.dtype)
    np.cumsum(own[ignored], axis=0, dtype=own.dtype, out=table[1:])
    begins = np.searchsorted(owners[ignored], owners[rows])
    result: NDArray[np.int32] = table[np.searchsorted(ignored, rows)]
    result -= table[begins]
    return result


def _own_weights(
    images: NDArray[np.int32], times: NDArray[np.int32] | None
) -> NDArray[np.int32]:
    """Return the weight of each row's image, (rows, B)."""
    if times is None:
        return np.ones((len(images), 1), np.int32)
    return times[images]


def _false_before(
    keys: NDArray[np.int64],
    categories: NDArray[np.int32],
    images: NDArray[np.int32],
    false: NDArray[np.uint16],
    times: NDArray[np.int32] | None,
) -> NDArray[np.int32]:
    """Sum the weights of detections that are false at all thresholds.

    This applies to nearly all detections. Adding their weights to the next key
    of their category keeps the tables small.

    Returns:
        (keys, B) weights between the previous key and this one.
    """
    plain = np.flatnonzero(false == ALL_BITS)
    segment = np.searchsorted(keys, plain)
    inside = segment < len(keys)
    plain, segment = plain[inside], segment[inside]
    same = categories[plain] == categories[keys[segment]]
    plain, segment = plain[same], segment[same]
    if times is None:
        counts = np.bincount(segment, minlength=len(keys))
        return counts[:, None].astype(np.int32)
    table = sparse.csr_array(
        (np.ones(len(plain), np.int32), (segment, images[plain])),
        shape=(len(keys), len(times)),
    )
    return np.asarray(table @ times)


def _area(
    hits: NDArray[np.int32],
    counted: NDArray[np.int32],
    num_gt: NDArray[np.float64],
    segments: Segments,
) -> NDArray[np.float64]:
    """Return the mean precision over ``STEPS`` recalls.

    Args:
        hits: (rows, B) true positives of the category up to this row.
        counted: (rows, B) true and false positives up to this row.
        num_gt: (categories, B) number of counted annotations.
        segments: Start, length and category of each category's rows.

    Returns:
        (categories, B) AP at one IoU threshold.
    """
    starts, lengths, owners = segments
    precision = hits / np.maximum(counted, 1, out=counted)
    # maximum over this and all later rows; an offset of 1 per category
    # excludes later categories, at the price of a rounding error of 1e-13
    level = np.repeat(-owners.astype(float), lengths)[:, None]
    precision += level
    backwards = precision[::-1]
    np.maximum.accumulate(backwards, axis=0, out=backwards)
    precision -= level
    recall = hits / np.repeat(np.maximum(num_gt, 1), lengths, axis=0)
    # index of the highest recall reached, compared in floating point as in
    # the official packages: there 0.35 is below 35 x 0.01
    reached = recall * 100
    reached += 1e-9
    np.floor(reached, out=reached)
    reached -= reached * 0.01 > recall
    news = np.empty_like(reached)
    np.subtract(reached[1:], reached[:-1], out=news[1:])
    news[starts] = reached[starts] + 1
    precision *= news
    ends = np.append(starts, len(precision))
    places = np.arange(len(precision))
    # 5 x as fast as np.add.reduceat
    sums = sparse.csr_array((np.full(len(places), 1 / STEPS), places, ends))
    return np.asarray(sums @ precision)
