"""Match detections in batches of images, on any rank, and join the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from ..annotation_faults import locate
from ..gc_paused import gc_paused
from .bit_set import BitSet
from .checks import check_detections, locate_categories, locate_images
from .detections import DetectionArrays
from .error_types import BACKGROUND, Errors, classify
from .greedy import (
    AREAS,
    IOU_THRESHOLDS,
    Overlaps,
    assign,
    box_overlaps,
    mask_overlaps,
    pair_groups,
    ranges,
    rounds_of,
)
from .ground_truth import GroundTruth
from .matches import IouType, Matches, Protocol
from .precision import ALL_BITS

#: Default ``max_dets`` of the official packages, by protocol.
MAX_DETS = {'coco': 100, 'lvis': 300}
#: Number of masks that are unpacked at a time.
MASKS = 1 << 16


@dataclass(frozen=True)
class MatchedBatch:
    """Matched detections of some images; columns as in :class:`Matches`.

    Attributes:
        seen: Positions of the images, in ascending order.
    """

    seen: NDArray[np.int64]
    categories: NDArray[np.int32]
    images: NDArray[np.int32]
    scores: NDArray[np.float64]
    ranks: NDArray[np.int32]
    matched: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    errors: NDArray[np.int8]
    targets: NDArray[np.int32]
    unjudged_images: NDArray[np.int32]
    unjudged_categories: NDArray[np.int32]
    unjudged_scores: NDArray[np.float64]


@dataclass(frozen=True)
class DetectionPositions:
    """Positions and ranks of N detections, shared by boxes and masks.

    Attributes:
        images: (N,) positions of their images in the ground truth.
        categories: (N,) positions of their categories in the ground truth.
        keys: (N,) key of image and category.
        order: (N,) sorts by image (and category, for COCO), then by falling
            score.
        ranks: (N,) rank by score, from 0, within the image (and category, for
            COCO).
    """

    images: NDArray[np.int32]
    categories: NDArray[np.int32]
    keys: NDArray[np.int64]
    order: NDArray[np.int64]
    ranks: NDArray[np.int32]


class Matcher:
    """Matcher of detections in batches of images, which are then joined.

    Batches can come in any order and from any rank. If an image is in more
    than one, the first is kept.

    Args:
        gt: Ground truth.
        iou_type, protocol, max_dets: See
            :func:`~.match_detections.match`.
    """

    def __init__(
        self,
        gt: GroundTruth,
        *,
        iou_type: IouType,
        protocol: Protocol,
        max_dets: int | None = None,
    ) -> None:
        if iou_type not in ('bbox', 'segm'):
            raise ValueError(
                f"iou_type must be 'bbox' or 'segm', got {iou_type!r}. "
                'Choose one.'
            )
        if protocol not in MAX_DETS:
            raise ValueError(
                f"protocol must be 'coco' or 'lvis', got {protocol!r}. "
                'Choose one.'
            )
        if protocol == 'lvis' and not gt.frequencies:
            raise ValueError(
                "Categories must have 'frequency' (r, c, f) for LVIS's "
                f'protocol, got {gt.source!r} without. Use an annotation '
                "file of LVIS v1, or COCO's protocol and metric."
            )
        self.gt = gt
        self.iou_type = iou_type
        self.protocol = protocol
        self.max_dets = MAX_DETS[protocol] if max_dets is None else max_dets
        self._sort_annotations()
        self._is_judged = self._judged_keys()
        self._is_not_exhaustive = self._key_set(
            self._key(*gt.not_exhaustive.T)
        )

    def _key(self, images: Any, categories: Any) -> NDArray[np.int64]:
        """Return one key for the positions of an image and a category."""
        return np.asarray(images, np.int64) * len(self.gt.category_ids) + (
            categories
        )

    def _sort_annotations(self) -> None:
        """Sort annotations by image and category, stably."""
        gt = self.gt
        # LVIS's official package drops annotations without area
        has_area = (gt.areas > 0) | (self.protocol == 'coco')
        used = np.flatnonzero(has_area)
        keys = self._key(gt.images[used], gt.categories[used])
        order = np.argsort(keys, kind='stable')
        self._annotations = used[order]
        self._gt_keys = keys[order]
        self._gt_boxes = gt.boxes[self._annotations]
        is_coco = self.protocol == 'coco'
        crowd = gt.is_crowd[self._annotations]
        self._is_crowd = crowd if is_coco else np.zeros_like(crowd)
        ignored = crowd if is_coco else gt.is_ignored[self._annotations]
        areas = gt.areas[self._annotations]
        self._gt_ignored = np.stack(
            [ignored | (areas < a) | (areas > b) for a, b in AREAS.values()]
        )

    def _judged_keys(self) -> BitSet | None:
        """Return the keys that are judged; None if all are (COCO)."""
        if self.protocol == 'coco':
            return None
        absent = self._key(*self.gt.negative.T)
        return self._key_set(np.concatenate([self._gt_keys, absent]))

    def _key_set(self, keys: NDArray[np.int64]) -> BitSet:
        return BitSet(keys, self._key(len(self.gt.image_ids), 0).item())

    def is_judged(
        self, image_ids: NDArray[np.int64], category_ids: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return (N,) bool: detections that can be true or false positives.

        Detections of unknown images or categories cannot.

        Args:
            image_ids: (N,) image ids of the detections.
            category_ids: (N,) category ids of the detections.
        """
        images, is_image = locate(self.gt.image_ids, image_ids)
        categories, is_category = locate(self.gt.category_ids, category_ids)
        is_known = is_image & is_category
        if self._is_judged is None:
            return is_known
        return is_known & self._is_judged(self._key(images, categories))

    def places(
        self,
        detections: DetectionArrays,
        scores: NDArray[np.float64] | None = None,
    ) -> DetectionPositions:
        """Locate detections in the ground truth and rank them by score.

        Args:
            detections: All detections of some images.
            scores: (N,) scores for ranking; None for ``detections.scores``.

        Raises:
            ValueError: For images or categories not in the ground truth.
        """
        images = locate_images(self.gt, detections.image_ids)
        categories = locate_categories(self.gt, detections.category_ids)
        keys = self._key(images, categories)
        order, ranks = _ranked(
            images if self.protocol == 'lvis' else keys,
            detections.scores if scores is None else scores,
        )
        return DetectionPositions(images, categories, keys, order, ranks)

    @gc_paused()
    def match_batch(
        self,
        detections: DetectionArrays,
        seen: Sequence[int] | None = None,
        places: DetectionPositions | None = None,
    ) -> MatchedBatch:
        """Match the detections of some images.

        Args:
            detections: All detections of these images.
            seen: Ids of the images on which the detector was run; None for
                the images that have detections.
            places: Positions of the detections, from any matcher of the same
                ground truth and protocol; None to compute them.

        Raises:
            ValueError: See :func:`~.match_detections.match`.
        """
        check_detections(self.gt, detections, self.iou_type)
        scores = detections.scores
        if self.iou_type == 'segm' and detections.mask_scores is not None:
            scores, places = detections.mask_scores, None
        at = places or self.places(detections, scores)
        usable = np.ones(len(detections), bool)
        if self.max_dets >= 0:
            usable = at.ranks < self.max_dets
        judged = usable.copy()
        if self._is_judged is not None:
            judged &= self._is_judged(at.keys)
        areas = self._areas(detections, judged)
        if self.protocol == 'lvis':
            judged &= areas > 0  # as the official package does
        other = np.flatnonzero(usable & ~judged)
        order = at.order[judged[at.order]]
        order = order[np.argsort(at.keys[order], kind='stable')]
        matched, ignored, targets = self._flags(
            detections, order, at.keys[order], areas[order]
        )
        is_false = (matched[0] | ignored[0]) & 1 == 0
        errors = np.zeros(len(order), np.int8)
        errors[is_false], targets[is_false] = self._errors(
            detections, order[is_false], at
        )
        return MatchedBatch(
            seen=np.unique(at.images)
            if seen is None
            else np.unique(locate_images(self.gt, np.asarray(seen, np.int64))),
            categories=at.categories[order],
            images=at.images[order],
            scores=scores[order],
            ranks=at.ranks[order],
            matched=matched,
            ignored=ignored,
            errors=errors,
            targets=targets,
            unjudged_images=at.images[other],
            unjudged_categories=at.categories[other],
            unjudged_scores=scores[other],
        )

    def _errors(
        self,
        detections: DetectionArrays,
        false: NDArray[np.int64],
        at: DetectionPositions,
    ) -> Errors:
        """Return the error types and target annotations of false detections.

        Args:
            detections: All detections.
            false: (F,) positions of the false detections.
            at: Positions of all detections.
        """
        counted = np.flatnonzero(~self._gt_ignored[0])
        used = self._annotations[counted]
        groups = pair_groups(
            at.images[false].astype(np.int64),
            self.gt.images[used].astype(np.int64),
        )
        overlaps = self._overlaps(
            detections, false, counted, groups, BACKGROUND
        )
        types, targets = classify(
            overlaps, at.categories[false], self.gt.categories[used]
        )
        return types, np.append(counted, -1)[targets].astype(np.int32)

    def _overlaps(
        self,
        detections: DetectionArrays,
        order: NDArray[np.int64],
        annotations: NDArray[np.int64],
        groups: NDArray[np.int64],
        least: float,
    ) -> Overlaps:
        """Compute overlaps of detections and annotations given by position."""
        is_crowd = self._is_crowd[annotations]
        if self.iou_type == 'bbox':
            assert detections.boxes is not None
            return box_overlaps(
                detections.boxes[order],
                self._gt_boxes[annotations],
                is_crowd,
                groups,
                least,
            )
        assert detections.masks is not None
        used = ranges(groups[:, 2], groups[:, 3])
        taken = self._annotations[annotations[used]]
        rles = self.gt.masks.take(taken.tolist())
        gt_masks = dict(zip(used.tolist(), rles, strict=True))
        return mask_overlaps(
            detections.masks, order, gt_masks, is_crowd, groups, least
        )

    def _flags(
        self,
        detections: DetectionArrays,
        order: NDArray[np.int64],
        keys: NDArray[np.int64],
        areas: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int32]]:
        """Match sorted detections in each area range.

        Returns:
            ``matched`` and ``ignored`` bits, (4, N) each, and the annotations
            matched at IoU 0.5 among all areas, (N,); -1 for none.
        """
        groups = pair_groups(keys, self._gt_keys)
        every = np.arange(len(self._annotations))
        overlaps = self._overlaps(
            detections, order, every, groups, IOU_THRESHOLDS[0]
        )
        rounds = rounds_of(overlaps.detections, groups)
        lenient = self._is_not_exhaustive(keys) & (self.protocol == 'lvis')
        matched = np.zeros((len(AREAS), len(order)), np.uint16)
        ignored = np.zeros_like(matched)
        targets = []
        for row, (low, high) in enumerate(AREAS.values()):
            matched[row], to_ignored, found = assign(
                overlaps,
                rounds,
                self._gt_ignored[row],
                self._is_crowd,
                len(order),
            )
            excused = (areas < low) | (areas > high) | lenient
            ignored[row] = to_ignored | np.where(
                excused, ~matched[row] & ALL_BITS, 0
            )
            targets.append(found)
        return matched, ignored, targets[0]  # of all areas

    def _areas(
        self, detections: DetectionArrays, used: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return areas in square pixels, (N,); 0 for masks not used."""
        if self.iou_type == 'bbox':
            assert detections.boxes is not None
            return detections.boxes[:, 2] * detections.boxes[:, 3]
        areas = np.zeros(len(detections))
        places = np.flatnonzero(used)
        for some in np.split(places, range(MASKS, len(places), MASKS)):
            if len(some):
                assert detections.masks is not None
                # pycocotools 2.0.11 fails for more than 255 masks on numpy 2
                areas[some] = hotcoco.mask.area(detections.masks.rles(some))
        return areas

    def join(self, parts: Sequence[MatchedBatch]) -> Matches:
        """Join batches; equivalent to matching all images at once."""
        gt = self.gt
        is_seen = np.zeros(len(gt.image_ids), bool)
        fresh = []
        nothing = self.match_batch(DetectionArrays.join([]), [])
        for part in (nothing, *parts):
            fresh.append(_drop_seen(part, is_seen))
            is_seen[part.seen] = True
        columns = {
            name: np.concatenate([getattr(x, name) for x in fresh], axis=-1)
            for name in MatchedBatch.__dataclass_fields__
            if name not in ('seen', 'unjudged_images')
        }
        # equal scores: sort by image, stably within an image
        order = np.lexsort(
            (columns['images'], -columns['scores'], columns['categories'])
        )
        for name in (
            'categories',
            'images',
            'scores',
            'ranks',
            'matched',
            'ignored',
            'errors',
            'targets',
        ):
            columns[name] = columns[name][..., order]
        return Matches(
            image_ids=gt.image_ids,
            is_evaluated=is_seen,
            category_ids=gt.category_ids,
            category_names=gt.category_names,
            iou_type=self.iou_type,
            protocol=self.protocol,
            max_dets=self.max_dets,
            gt_images=gt.images[self._annotations],
            gt_categories=gt.categories[self._annotations],
            gt_counted=~self._gt_ignored,
            annotations=gt.digest,
            **columns,
        )


def _drop_seen(part: MatchedBatch, is_seen: NDArray[np.bool_]) -> MatchedBatch:
    """Remove images that an earlier part contains."""
    if not is_seen[part.seen].any():
        return part
    keep = ~is_seen[part.images]
    other = ~is_seen[part.unjudged_images]
    return replace(
        part,
        categories=part.categories[keep],
        images=part.images[keep],
        scores=part.scores[keep],
        ranks=part.ranks[keep],
        matched=part.matched[:, keep],
        ignored=part.ignored[:, keep],
        errors=part.errors[keep],
        targets=part.targets[keep],
        unjudged_images=part.unjudged_images[other],
        unjudged_categories=part.unjudged_categories[other],
        unjudged_scores=part.unjudged_scores[other],
    )


def _ranked(
    groups: NDArray[np.integer], scores: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the order by group and falling score, and the ranks in groups."""
    low = groups.min(initial=0)
    if groups.max(initial=0) - low < 1 << 16:
        groups = (groups - low).astype(np.uint16)  # is sorted 5 x as fast
    order = np.lexsort((-scores, groups))
    starts = np.flatnonzero(np.diff(groups[order].astype(int), prepend=-1))
    lengths = np.diff(starts, append=len(scores))
    ranks = np.empty(len(scores), np.int32)
    ranks[order] = np.arange(len(scores)) - np.repeat(starts, lengths)
    return order, ranks
