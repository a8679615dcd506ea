"""Compute the AP gained by fixing all errors of one type, as TIDE does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .error_types import CLS, FITS, LOC, MISS, TYPES
from .matches import Matches


def error_gains_per_class(
    matches: Matches, image_weights: NDArray[np.integer] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the AP50 that each category would gain by fixing an error type.

    Each type is fixed alone, as in TIDE; so the gains do not add up.

    Args:
        matches: Matches of one evaluation, with errors.
        image_weights: As for :meth:`Matches.ap_per_class`.

    Returns:
        Gains by name of the type, (num_categories,) or (B, num_categories),
        as fractions of 1; NaN for categories without an instance.
    """
    before = matches.ap_per_class(FITS, image_weights=image_weights)
    gains = {}
    for number, name in enumerate(TYPES, 1):
        after = fix_errors(matches, number).ap_per_class(
            FITS, image_weights=image_weights
        )
        # no instance is left if all were missed: count AP as 1
        after = np.where(np.isnan(after), 1.0, after)
        gains[name] = np.where(np.isnan(before), np.nan, after - before)
    return gains


def fix_errors(matches: Matches, kind: int) -> Matches:
    """Fix all errors of a type, as TIDE's authors do.

    If the best detection attributed to an annotation that was not found has
    this type, it becomes a true positive. All other errors of the type are
    removed; for type Miss, these are annotations.

    Args:
        matches: Matches of one evaluation, with errors.
        kind: Number of the type.

    Returns:
        Matches that are valid for AP at IoU 0.5 and all areas only.
    """
    assert matches.errors is not None and matches.targets is not None
    if kind == MISS:
        counted = matches.gt_counted & ~missed_annotations(matches)
        return replace(matches, gt_counted=counted)
    is_kind = matches.errors == kind
    right = is_kind & _best_of_target(matches)
    kept = matches.select(~is_kind | right)
    is_right = right[~is_kind | right]
    mended = replace(kept, matched=kept.matched | is_right.astype(np.uint16))
    if kind != CLS:
        return mended
    assert kept.targets is not None
    categories = np.where(
        is_right, matches.gt_categories[kept.targets], kept.categories
    ).astype(np.int32)
    order = np.lexsort((kept.images, -kept.scores, categories))
    return replace(mended, categories=categories).select(order)


def missed_annotations(matches: Matches) -> NDArray[np.bool_]:
    """Return (G,) bool: counted annotations that are no detection's target."""
    assert matches.targets is not None
    meant = np.zeros(len(matches.gt_images), bool)
    meant[matches.targets[matches.targets >= 0]] = True
    return matches.gt_counted[0] & ~meant


def count_errors(matches: Matches) -> dict[str, NDArray[np.int64]]:
    """Return the number of errors by name of the type, (num_categories,).

    Errors of the types Cls and Miss count for the category of the object, the
    others for the category of the detection.
    """
    assert matches.errors is not None and matches.targets is not None
    number = len(matches.category_ids)
    owners = {
        name: matches.categories[matches.errors == kind]
        for kind, name in enumerate(TYPES, 1)
    }
    confused = matches.targets[matches.errors == CLS]
    owners['Cls'] = matches.gt_categories[confused]
    owners['Miss'] = matches.gt_categories[missed_annotations(matches)]
    return {k: np.bincount(v, minlength=number) for k, v in owners.items()}


def _best_of_target(matches: Matches) -> NDArray[np.bool_]:
    """Return (N,) bool: the best error of each annotation not found."""
    assert matches.errors is not None and matches.targets is not None
    targets = matches.targets
    is_meant = np.isin(matches.errors, (CLS, LOC)) & (targets >= 0)
    found = targets[(matches.errors == 0) & (targets >= 0)]
    is_meant &= ~np.isin(targets, found)
    rows = np.flatnonzero(is_meant)
    order = rows[np.lexsort((-matches.scores[rows], targets[rows]))]
    best = order[np.flatnonzero(np.diff(targets[order], prepend=-1))]
    result = np.zeros(len(targets), bool)
    result[best] = True
    return result
