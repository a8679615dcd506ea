"""Average precision of many categories, thresholds and resamples at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .matching import IOU_THRESHOLDS

#: The recalls at which precision is read, as both official packages have.
RECALLS = np.linspace(0.0, 1.0, 101)
BOUNDED = np.append(RECALLS, np.inf)
NUM_THRESHOLDS = len(IOU_THRESHOLDS)
ALL_BITS = (1 << NUM_THRESHOLDS) - 1
#: Numbers that an intermediate table may hold: 64 MiB.
TABLE = 1 << 23


def average_precision(
    categories: NDArray[np.int32],
    images: NDArray[np.int32],
    matched: NDArray[np.uint16],
    ignored: NDArray[np.uint16],
    num_gt: NDArray[np.float64],
    weights: NDArray[np.integer] | None,
    thresholds: range = range(NUM_THRESHOLDS),
) -> NDArray[np.float64]:
    """Average precision of each category under each resample of the images.

    The value at a recall is the highest precision from there on, as in the
    official packages. A detection in an image that counts w times counts w
    times in a row.

    Args:
        categories: (N,) ascending.
        images: (N,)
        matched: (N,) bit t is set if the detection matched at threshold t;
            within a category, scores fall.
        ignored: (N,) bit t is set if it counts neither way.
        num_gt: (B, num_categories) annotations to find.
        weights: (B, num_images) how often an image counts; None for once.
        thresholds: Those to average over.

    Returns:
        (B, num_categories), NaN where there is nothing to find.
    """
    true, false = matched & ~ignored, ~matched & ~ignored & ALL_BITS
    result = np.zeros(num_gt.shape)
    for low, high in _category_chunks(categories, true, len(num_gt)):
        rows = slice(*np.searchsorted(categories, [low, high]))
        result[:, low:high] = _chunk_precision(
            categories[rows] - low,
            images[rows],
            true[rows],
            false[rows],
            num_gt[:, low:high].T,
            weights,
            thresholds,
        ).T
    result[num_gt == 0] = np.nan
    return result


def _category_chunks(
    categories: NDArray[np.int32],
    true: NDArray[np.uint16],
    resamples: int,
) -> Iterator[tuple[int, int]]:
    """Ranges of categories whose tables stay small."""
    if not len(categories):
        return
    found = np.bincount(categories, true > 0)
    chunk = np.cumsum(found * resamples) // TABLE
    starts = np.flatnonzero(np.diff(chunk, prepend=-1)).tolist()
    yield from zip(starts, [*starts[1:], len(found)], strict=True)


def _chunk_precision(
    categories: NDArray[np.int32],
    images: NDArray[np.int32],
    true: NDArray[np.uint16],
    false: NDArray[np.uint16],
    num_gt: NDArray[np.float64],
    weights: NDArray[np.integer] | None,
    thresholds: range,
) -> NDArray[np.float64]:
    """(num_categories, B) of some categories, 0 where nothing is found."""
    result = np.zeros(num_gt.shape)
    keys = np.flatnonzero((true > 0) | ((false > 0) & (false < ALL_BITS)))
    if not len(keys):
        return result
    owners = categories[keys]
    own = _own_weights(images[keys], weights)
    before = _false_before(keys, categories, images, false, weights)
    total = np.cumsum(before + own, axis=0)  # up to this key, all of them
    for t in thresholds:
        rows = np.flatnonzero(true[keys] >> t & 1)
        if not len(rows):
            continue
        starts = np.flatnonzero(np.diff(owners[rows], prepend=-1))
        present = owners[rows[starts]]
        firsts = np.searchsorted(owners, present)
        lengths = np.diff([*starts, len(rows)])
        hits = _cumulate(own, rows, rows, firsts, lengths)
        misses = total[rows]
        misses -= np.repeat(_row_before(total, firsts), lengths, axis=0)
        misses -= hits
        ignored = np.flatnonzero(~(true[keys] | false[keys]) >> t & 1)
        if len(ignored):
            misses -= _cumulate(own, ignored, rows, firsts, lengths)
        result[present] += _area(
            hits, misses, num_gt[present], starts, lengths
        )
    return result / len(thresholds)


def _cumulate(
    own: NDArray[np.float64],
    counted: NDArray[np.int64],
    rows: NDArray[np.int64],
    firsts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Weight of the counted keys of a category up to each of some rows.

    Args:
        own: (keys, B)
        counted: Positions of keys.
        rows: Positions of keys, in order of their category.
        firsts: First key of each category that has rows.
        lengths: Rows of each of these.

    Returns:
        (rows, B)
    """
    table = np.cumsum(own[counted], axis=0)
    ends = np.searchsorted(counted, rows, side='right')
    begins = np.searchsorted(counted, firsts)
    base = np.repeat(_row_before(table, begins), lengths, axis=0)
    return _row_before(table, ends) - base


def _row_before(
    table: NDArray[np.float64], positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Rows of a cumulated table that end before positions, 0 at the first."""
    values = table[positions - 1]
    values[positions == 0] = 0
    return values


def _own_weights(
    images: NDArray[np.int32], weights: NDArray[np.integer] | None
) -> NDArray[np.float64]:
    """(rows, B): how often the image of each row counts."""
    if weights is None:
        return np.ones((len(images), 1))
    return weights.T[images].astype(np.float64)


def _false_before(
    keys: NDArray[np.int64],
    categories: NDArray[np.int32],
    images: NDArray[np.int32],
    false: NDArray[np.uint16],
    weights: NDArray[np.integer] | None,
) -> NDArray[np.float64]:
    """Sum what is false at all thresholds into the next row that is not.

    Nearly all detections are of that kind; so the tables need few rows.

    Returns:
        (keys, B): weight between a key and the key before it.
    """
    plain = np.flatnonzero(false == ALL_BITS)
    segment = np.searchsorted(keys, plain)
    inside = segment < len(keys)
    plain, segment = plain[inside], segment[inside]
    same = categories[plain] == categories[keys[segment]]
    plain, segment = plain[same], segment[same]
    if weights is None:
        counts = np.bincount(segment, minlength=len(keys))
        return counts[:, None].astype(np.float64)
    table = sparse.csr_array(
        (np.ones(len(plain)), (segment, images[plain])),
        shape=(len(keys), weights.shape[1]),
    )
    return np.asarray(table @ weights.T.astype(np.float64))


def _area(
    hits: NDArray[np.float64],
    misses: NDArray[np.float64],
    num_gt: NDArray[np.float64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Mean precision over ``RECALLS`` from the rows of true detections.

    Args:
        hits: (rows, B) true detections of the category up to this one.
        misses: (rows, B) false ones.
        num_gt: (categories, B)
        starts: (categories,) first row of each.
        lengths: (categories,) rows of each.

    Returns:
        (categories, B)
    """
    precision = hits / (misses + hits + np.spacing(1))
    long = lengths > 1
    ends = (starts + lengths)[long].tolist()
    for start, end in zip(starts[long].tolist(), ends, strict=True):
        part = precision[start:end][::-1]
        np.maximum.accumulate(part, axis=0, out=part)
    with np.errstate(divide='ignore', invalid='ignore'):
        recall = hits / np.repeat(num_gt, lengths, axis=0)
    # recalls up to this row, less those up to the row before
    reached = _recalls_up_to(recall)
    news = np.diff(reached, axis=0, prepend=0)
    news[starts] = reached[starts]
    return np.add.reduceat(precision * news, starts, axis=0) / len(RECALLS)


def _recalls_up_to(recall: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of ``RECALLS`` do not exceed each: a quick `searchsorted`."""
    guess = np.nan_to_num(recall * 100).astype(np.int64)  # off by one at most
    guess += BOUNDED[guess + 1] <= recall
    guess -= BOUNDED[guess] > recall
    return guess + 1
