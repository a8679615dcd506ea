"""LVIS's federated labels of an image after objects were pasted.

LVIS is federated: of most classes it is not known whether an image has them.
Two lists tell what was checked: classes that were looked for and are not
there (negative), and classes that are there but were not all annotated (not
exhaustive). Every other class without annotations is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Labels that were looked for and are not in the image.
NEGATIVE = 'neg_labels'
#: Labels of which not every object in the image is annotated.
NOT_EXHAUSTIVE = 'not_exhaustive_labels'


def update(
    results: dict[str, Any],
    pasted: Iterable[int],
    carried: Iterable[int] = (),
    half_hidden: Iterable[int] = (),
) -> None:
    """Keep the two lists true when objects are pasted into an image.

    The rule, for a class c:

    1. Pasted where c was negative: it is there now, and all of it is
       annotated. c leaves the negative list and is exhaustive.
    2. Pasted where c was annotated: nothing changes. It stays exhaustive,
       or not exhaustive, as it was: what is pasted is annotated.
    3. Pasted where c was unknown: the image may have other objects of c
       that nobody annotated. c becomes not exhaustive.
    4. Carried along, that is seen inside a pasted mask without being pasted
       itself (a tie on a person): c is there without an annotation. It
       leaves the negative list and becomes not exhaustive.
    5. Hidden so far that its annotation is dropped while some of it can
       still be seen: c becomes not exhaustive.

    What the annotations of the source cannot tell stays unknown: an
    unannotated object inside a pasted mask.

    Args:
        results: Of the image into which is pasted, not yet changed; its
            ``instances`` or ``gt_bboxes_labels`` say what was annotated.
            The two lists are replaced, if it has them.
        pasted: Labels of the pasted objects.
        carried: Labels of rule 4.
        half_hidden: Labels of rule 5.
    """
    if NEGATIVE not in results and NOT_EXHAUSTIVE not in results:
        return
    negative = {int(c) for c in results.get(NEGATIVE, ())}
    partial = {int(c) for c in results.get(NOT_EXHAUSTIVE, ())}
    annotated = {int(c) for c in results.get('gt_bboxes_labels', ())}
    # objects that a crop has cut away were looked for as well
    annotated |= {one['bbox_label'] for one in results.get('instances', ())}
    pasted, carried = set(map(int, pasted)), set(map(int, carried))
    partial |= pasted - negative - annotated
    partial |= carried | set(map(int, half_hidden))
    negative -= pasted | carried
    results[NEGATIVE] = sorted(negative)
    results[NOT_EXHAUSTIVE] = sorted(partial)
