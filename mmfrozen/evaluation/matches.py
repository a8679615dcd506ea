"""Store matched detections as arrays, and compute AP from them."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import write_array
from numpy.typing import NDArray
from scipy import sparse

from ..memory_limit import memory_limit
from .greedy import AREAS, IOU_THRESHOLDS
from .precision import NUM_THRESHOLDS, average_precision

IouType = Literal['bbox', 'segm']
Protocol = Literal['coco', 'lvis']
#: Fields of :class:`Matches` with one value per detection.
DETECTION_COLUMNS = (
    'categories',
    'images',
    'scores',
    'ranks',
    'errors',
    'targets',
)


@dataclass(frozen=True)
class Matches:
    """Detections of an evaluation, matched with its ground truth.

    Images are sorted by image id and categories by category id: two runs
    matched with the same ground truth share both orders, so that the same
    ``image_weights`` apply to both.

    Attributes:
        image_ids: (num_images,) sorted.
        is_evaluated: (num_images,) bool: the detector was run on the image.
        category_ids: (num_categories,) sorted.
        category_names: (num_categories,) in the order of ``category_ids``.
        iou_type: ``'bbox'`` or ``'segm'``.
        protocol: ``'coco'`` or ``'lvis'``.
        max_dets: Maximum number of detections kept: per image and category
            (COCO), per image (LVIS); -1 for all.
        categories: (N,) position in ``category_ids``, ascending.
        images: (N,) position in ``image_ids``.
        scores: (N,) descending within a category.
        ranks: (N,) rank by score, from 0, within the image (LVIS) or the
            image and category (COCO), as limited by ``max_dets``.
        matched: (4, N) uint16: bit t is set if the detection matched at
            ``IOU_THRESHOLDS[t]``; a row for each of ``AREAS``.
        ignored: (4, N) uint16: bit t is set if the detection is neither a
            true nor a false positive; rows as in ``matched``.
        unjudged_categories: (M,) position in ``category_ids`` of detections
            that LVIS does not judge.
        unjudged_scores: (M,) scores of these detections.
        gt_images: (G,) position in ``image_ids`` of each annotation.
        gt_categories: (G,) position in ``category_ids`` of each annotation.
        gt_counted: (4, G) bool: the annotation is not ignored (crowd,
            ``ignore``, area).
        annotations: Digest of the ground truth; empty in older files.
        errors: (N,) int8 error type at IoU 0.5, see ``error_types``; 0 for
            none. None in older files.
        targets: (N,) int32 position of the annotation that the detection
            matched at IoU 0.5, or to which an error of type Cls or Loc is
            attributed; -1 for none. None in older files.
    """

    image_ids: NDArray[np.int64]
    is_evaluated: NDArray[np.bool_]
    category_ids: NDArray[np.int64]
    category_names: tuple[str, ...]
    iou_type: IouType
    protocol: Protocol
    max_dets: int
    categories: NDArray[np.int32]
    images: NDArray[np.int32]
    scores: NDArray[np.float64]
    ranks: NDArray[np.int32]
    matched: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    unjudged_categories: NDArray[np.int32]
    unjudged_scores: NDArray[np.float64]
    gt_images: NDArray[np.int32]
    gt_categories: NDArray[np.int32]
    gt_counted: NDArray[np.bool_]
    annotations: str = ''
    errors: NDArray[np.int8] | None = None
    targets: NDArray[np.int32] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there are no detections, judged or not."""
        return not len(self.scores) and not len(self.unjudged_scores)

    def num_instances(
        self,
        area: str = 'all',
        image_weights: NDArray[np.integer] | None = None,
    ) -> NDArray[np.int64]:
        """Count the annotations of each category that are not ignored.

        Args:
            area: A key of ``AREAS``.
            image_weights: As for :meth:`ap_per_class`.

        Returns:
            (num_categories,) or (B, num_categories).
        """
        counted = self.gt_counted[_row(area)]
        categories = self.gt_categories[counted]
        num = len(self.category_ids)
        if image_weights is None:
            return np.bincount(categories, minlength=num)
        weights = np.atleast_2d(image_weights)
        table = sparse.csr_array(
            (
                np.ones(len(categories), int),
                (self.gt_images[counted], categories),
            ),
            shape=(len(self.image_ids), num),
        )
        counts = np.asarray(weights @ table)
        return counts if np.ndim(image_weights) == 2 else counts[0]

    def num_gt_images(self, area: str = 'all') -> NDArray[np.int64]:
        """Count the images with counted annotations, (num_categories,)."""
        counted = self.gt_counted[_row(area)]
        pairs = np.stack([self.gt_categories, self.gt_images])[:, counted]
        found = np.unique(pairs, axis=1)[0]
        return np.bincount(found, minlength=len(self.category_ids))

    def num_images_of(
        self, members: NDArray[np.bool_], area: str = 'all'
    ) -> int:
        """Count the images with counted annotations of some categories.

        Args:
            members: (num_categories,) bool, whether a category is counted.
            area: A key of ``AREAS``.
        """
        inside = self.gt_counted[_row(area)] & members[self.gt_categories]
        return len(np.unique(self.gt_images[inside]))

    def ap_per_class(
        self,
        iou: float | None = None,
        area: str = 'all',
        image_weights: NDArray[np.integer] | None = None,
    ) -> NDArray[np.float64]:
        """Return the average precision of each category, as fractions of 1.

        Args:
            iou: One of ``IOU_THRESHOLDS``; None for their mean.
            area: A key of ``AREAS``.
            image_weights: Number of times that each image counts,
                (num_images,), or (B, num_images) for B resamples; None for
                once each.

        Returns:
            (num_categories,) or (B, num_categories); NaN where a category
            has no instance. The mean over the others is AP as the official
            packages define it.
        """
        row = _row(area)
        thresholds = range(NUM_THRESHOLDS)
        if iou is not None:
            found = np.flatnonzero(np.isclose(IOU_THRESHOLDS, iou))
            if not len(found):
                raise ValueError(
                    f'iou must be one of .50, .55, ... .95, got {iou}. '
                    'Choose one.'
                )
            thresholds = range(found[0], found[0] + 1)
        weights = image_weights
        if weights is not None:
            weights = np.atleast_2d(weights)
            if weights.shape[1] != len(self.image_ids):
                raise ValueError(
                    'image_weights must have a column for each of '
                    f'{len(self.image_ids)} images, got {weights.shape[1]}. '
                    'Draw them for this ground truth.'
                )
        values = average_precision(
            self.categories,
            self.images,
            self.matched[row],
            self.ignored[row],
            np.atleast_2d(self.num_instances(area, weights)).astype(float),
            weights,
            thresholds,
        )
        return values if np.ndim(image_weights) == 2 else values[0]

    def recall_per_class(self, area: str = 'all') -> NDArray[np.float64]:
        """Return the recall of all detections, averaged over IoU thresholds.

        Args:
            area: A key of ``AREAS``.

        Returns:
            (num_categories,) as fractions of 1; NaN where a category has no
            instance.
        """
        row = _row(area)
        true = self.matched[row] & ~self.ignored[row]
        hits = sum(
            np.bincount(
                self.categories,
                true >> t & 1,
                minlength=len(self.category_ids),
            )
            for t in range(NUM_THRESHOLDS)
        )
        num_gt = self.num_instances(area).astype(float)
        num_gt[num_gt == 0] = np.nan
        return hits / num_gt / NUM_THRESHOLDS

    def limited(self, max_dets: int) -> Matches:
        """Keep the best detections per image (and category, for COCO)."""
        kept = self.select(self.ranks < max_dets)
        return replace(kept, max_dets=max_dets)

    def limited_per_category(self, per_category: int = 10_000) -> Matches:
        """Keep the best detections of each category, for "AP fixed".

        There is no limit per image (Dave et al. 2021), so match with
        ``max_dets=-1``. Detections that LVIS does not judge are ranked too,
        as in the authors' code.

        Args:
            per_category: Maximum number of detections of a category, over
                all images.
        """
        number = len(self.category_ids)
        total = np.bincount(self.categories, minlength=number)
        total += np.bincount(self.unjudged_categories, minlength=number)
        keep = np.ones(len(self.scores), bool)
        for category in np.flatnonzero(total > per_category):
            bounds = np.searchsorted(self.categories, [category, category + 1])
            own = -self.scores[slice(*bounds)]
            others = self.unjudged_scores[self.unjudged_categories == category]
            rank = np.arange(len(own)) + np.searchsorted(np.sort(-others), own)
            keep[slice(*bounds)] = rank < per_category
        return self.select(keep)

    def select(self, keep: NDArray[np.bool_]) -> Matches:
        """Keep some detections, or reorder them.

        Ranks are not recomputed: :meth:`limited` is valid afterwards only if
        the best detections of each image were kept.

        Args:
            keep: (N,) bool, or positions.
        """
        columns = {
            name: getattr(self, name)[keep]
            for name in DETECTION_COLUMNS
            if getattr(self, name) is not None
        }
        return replace(
            self,
            **columns,
            matched=self.matched[:, keep],
            ignored=self.ignored[:, keep],
        )

    def save(self, path: str | Path) -> None:
        """Write a compressed ``.npz``, which :meth:`load` reads."""
        # np.savez_compressed has no option for this level, 4 x as fast
        with zipfile.ZipFile(
            path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1
        ) as file:
            for x in fields(self):
                value = getattr(self, x.name)
                if value is None:
                    continue
                with file.open(f'{x.name}.npy', 'w', force_zip64=True) as to:
                    write_array(to, np.asarray(value))

    @classmethod
    def load(cls, path: str | Path) -> Matches:
        """Read a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not such a file.
        """
        try:
            with zipfile.ZipFile(path):  # np.load also reads other formats
                pass
            with memory_limit(), np.load(path, allow_pickle=False) as file:
                columns: dict[str, Any] = {
                    x.name: file[x.name]
                    for x in fields(cls)
                    if x.name in file or x.default is MISSING
                }
            names = tuple(columns['category_names'].tolist())
            columns['category_names'] = names
            for name in ('iou_type', 'protocol', 'max_dets', 'annotations'):
                if name in columns:
                    columns[name] = columns[name].item()
        except (
            EOFError,
            KeyError,
            MemoryError,
            TypeError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise ValueError(
                'Matches must be a .npz file of an evaluation, got '
                f'{str(path)!r} ({error!r}). Evaluate again.'
            ) from error
        return cls(**columns)


def _row(area: str) -> int:
    if area not in AREAS:
        raise ValueError(
            f'area must be one of {", ".join(AREAS)}, got {area!r}. Choose '
            'one.'
        )
    return list(AREAS).index(area)
