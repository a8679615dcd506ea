"""AP that would be gained if errors of one type were mended, after TIDE."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .error_types import CLS, FITS, LOC, MISS, TYPES
from .matches import Matches


def gained(
    matches: Matches, image_weights: NDArray[np.integer] | None = None
) -> dict[str, NDArray[np.float64]]:
    """AP50 that each category would gain without one type of error.

    The gains do not add up: what is mended first is counted (TIDE).

    Args:
        matches: Of one evaluation, with errors.
        image_weights: As for :meth:`Matches.ap_per_class`.

    Returns:
        By name of the type, (num_categories,) or (B, num_categories), as
        fractions of 1; NaN for categories without an instance.
    """
    before = matches.ap_per_class(FITS, image_weights=image_weights)
    gains = {}
    for number, name in enumerate(TYPES, 1):
        after = mend(matches, number).ap_per_class(
            FITS, image_weights=image_weights
        )
        # a class of which all was missed: as one of which nearly all was
        after = np.where(np.isnan(after), 1.0, after)
        gains[name] = np.where(np.isnan(before), np.nan, after - before)
    return gains


def mend(matches: Matches, kind: int) -> Matches:
    """Mend all errors of a type, as TIDE's authors do.

    Of the detections that mean one annotation the best is made right, if
    nothing else has found it; all others are taken away. What is missed is
    taken out of the annotations.

    Args:
        matches: Of one evaluation, with errors.
        kind: Number of the type.

    Returns:
        What is right for AP at IoU 0.5 and all areas only.
    """
    assert matches.errors is not None and matches.targets is not None
    if kind == MISS:
        counted = matches.gt_counted & ~missed(matches)
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


def missed(matches: Matches) -> NDArray[np.bool_]:
    """(G,) annotations that count and that no detection is meant for."""
    assert matches.targets is not None
    meant = np.zeros(len(matches.gt_images), bool)
    meant[matches.targets[matches.targets >= 0]] = True
    return matches.gt_counted[0] & ~meant


def count_errors(matches: Matches) -> dict[str, NDArray[np.int64]]:
    """Errors by name of the type, of each category: (num_categories,).

    Those of type Cls and Miss count for the class of the object, the others
    for that of the detection.
    """
    assert matches.errors is not None and matches.targets is not None
    number = len(matches.category_ids)
    owners = {
        name: matches.categories[matches.errors == kind]
        for kind, name in enumerate(TYPES, 1)
    }
    confused = matches.targets[matches.errors == CLS]
    owners['Cls'] = matches.gt_categories[confused]
    owners['Miss'] = matches.gt_categories[missed(matches)]
    return {k: np.bincount(v, minlength=number) for k, v in owners.items()}


def _best_of_target(matches: Matches) -> NDArray[np.bool_]:
    """(N,) errors that are the best meant for an annotation not found."""
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
