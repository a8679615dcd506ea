"""Updates of LVIS's federated labels of an image when objects are pasted.

LVIS is federated: for most classes it is unknown whether an image has them.
Two lists record what was checked: classes that were looked for and are absent
(negative), and classes that are present but were not all annotated (not
exhaustive). Every other class without annotations is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Key of labels that were looked for and are absent.
NEGATIVE = 'neg_labels'
#: Key of labels of which not every object is annotated.
NOT_EXHAUSTIVE = 'not_exhaustive_labels'


def update(
    results: dict[str, Any],
    pasted: Iterable[int],
    overlapping_labels: Iterable[int] = (),
    half_hidden: Iterable[int] = (),
) -> None:
    """Update the two lists when objects are pasted into an image.

    The rules, for a class c:

    1. Pasted where c was negative: c is present now, and all its objects
       are annotated. c leaves the negative list and is exhaustive.
    2. Pasted where c was annotated: nothing changes. c stays exhaustive,
       or not exhaustive, as the pasted objects are annotated.
    3. Pasted where c was unknown: the image may have other objects of c
       that nobody annotated. c becomes not exhaustive.
    4. Carried along, that is visible inside a pasted mask without being
       pasted itself (a tie on a person): c is present without an annotation.
       It leaves the negative list and becomes not exhaustive.
    5. Hidden so far that its annotation is dropped while part of it is
       still visible: c becomes not exhaustive.

    Objects inside a pasted mask that the source does not annotate remain
    unknown.

    Args:
        results: Result dict of the target image before pasting; its
            ``instances`` or ``gt_bboxes_labels`` hold what was annotated. The
            two lists are replaced, if it has them.
        pasted: Labels of the pasted objects.
        overlapping_labels: Labels of rule 4.
        half_hidden: Labels of rule 5.
    """
    if NEGATIVE not in results and NOT_EXHAUSTIVE not in results:
        return
    negative = {int(c) for c in results.get(NEGATIVE, ())}
    partial = {int(c) for c in results.get(NOT_EXHAUSTIVE, ())}
    annotated = {int(c) for c in results.get('gt_bboxes_labels', ())}
    # includes objects removed by a crop
    annotated |= {one['bbox_label'] for one in results.get('instances', ())}
    pasted, overlapping_labels = (
        set(map(int, pasted)),
        set(map(int, overlapping_labels)),
    )
    partial |= pasted - negative - annotated
    partial |= overlapping_labels | set(map(int, half_hidden))
    negative -= pasted | overlapping_labels
    results[NEGATIVE] = sorted(negative)
    results[NOT_EXHAUSTIVE] = sorted(partial)
