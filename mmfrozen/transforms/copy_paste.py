"""The Simple Copy-Paste augmentation (Ghiasi et al. 2021, arXiv
2012.07177)."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from ..errors import is_number, require
from ..mask_crops import Crop, tighten
from ..registry import TRANSFORMS
from . import federated
from .class_index import distinct, transforms_of
from .compact_masks import CompactMasks, rectangles
from .object_bank import ObjectBank
from .painting import Piece, cover, paint, visible_parts
from .paste_sources import build_sources
from .sample import (
    Results,
    boxes_of,
    check_sizes,
    ignore_flags_of,
    join,
    other_image,
)


@TRANSFORMS.register_module()
class SimpleCopyPaste(BaseTransform):
    """A transform that pastes objects of another image, or of a bank.

    What MMDetection's ``CopyPaste`` lacks: it converts the image to int64,
    modifies its inputs, processes every mask of both images whatever is
    pasted, keeps fully hidden objects near the origin, pastes crowds,
    sometimes requests an image index beyond the last one, and cannot prefer
    rare classes. The paper's two steps are kept: both images are jittered
    independently (in the wrapped dataset's pipeline), and a random subset of
    objects is pasted at their original positions.

    Only objects that overlap a pasted mask change; all others keep their masks
    and boxes. Pasted masks that overlap in their own image still overlap; of a
    bank's objects the later one is in front. Crowds and ignored objects are
    never pasted. Where they are covered they shrink like other objects, but
    stay ignored as long as one of their pixels is visible.

    Required keys: ``img``, ``gt_bboxes``, ``gt_bboxes_labels``,
    ``gt_ignore_flags`` (optional), ``gt_masks`` (bitmaps, polygons or compact;
    optional with `paste_by_box`), ``gt_seg_map`` (optional), and
    ``mix_results`` with the same keys of one other image, unless `sources` is
    a bank. Modified keys: these, and ``neg_labels`` and
    ``not_exhaustive_labels`` if an image has them
    (:func:`~mmfrozen.transforms.federated.update`); every other key stays.
    ``gt_masks`` becomes :class:`~mmfrozen.transforms.CompactMasks`, a
    ``BitmapMasks``. Inputs are never modified. If nothing is pasted, the image
    is returned unchanged.

    Args:
        sources: Source of the objects: a config of ``UniformSources`` (the
            default for None), ``RepeatFactorSources``, ``RareSources`` or
            ``ObjectBank``.
        max_num_pasted: Upper limit, exclusive, of the number of objects in a
            random subset, as in MMDetection.
        prob: Probability to paste at all.
        bbox_occluded_thr: A partly hidden object is kept if no side of its box
            moved by more than this number of pixels. A fully hidden object is
            always dropped.
        mask_occluded_thr: A partly hidden object is also kept if more than
            this number of its pixels is visible.
        selected: Whether to paste a random subset; False pastes every object.
        paste_by_box: Whether to paste whole boxes if there are no masks.
        blend_sigma: Sigma in pixels of the Gaussian that fades the inner edge
            of a pasted object; 0 for a hard edge. (The paper's blending also
            extends outwards, over pixels that are not the object's.)

    Raises:
        ValueError: If masks are missing, or the two images differ in size.

    Example config::

        dict(
            type='mmfrozen.SimpleCopyPaste',
            sources=dict(type='mmfrozen.RareSources'))
    """

    def __init__(
        self,
        sources: dict | None = None,
        max_num_pasted: int = 100,
        *,
        prob: float = 1.0,
        bbox_occluded_thr: float = 10,
        mask_occluded_thr: float = 300,
        selected: bool = True,
        paste_by_box: bool = False,
        blend_sigma: float = 0.0,
    ) -> None:
        _check(prob, max_num_pasted)
        for name, value in dict(
            bbox_occluded_thr=bbox_occluded_thr,
            mask_occluded_thr=mask_occluded_thr,
            blend_sigma=blend_sigma,
        ).items():
            require(
                is_number(value) and value >= 0,
                f'SimpleCopyPaste.{name}',
                'a number of pixels from 0 on',
                value,
                'Correct it.',
            )
        self.sources = build_sources(sources)
        self.max_num_pasted = max_num_pasted
        self.prob = prob
        self.bbox_occluded_thr = bbox_occluded_thr
        self.mask_occluded_thr = mask_occluded_thr
        self.selected = selected
        self.paste_by_box = paste_by_box
        self.blend_sigma = blend_sigma
        self._is_prepared = False
        self._wanted: int | None = None  # a class that must be pasted

    def prepare(self, dataset: Any) -> None:
        """Read the annotations once, before workers are forked.

        ``CopyPasteDataset`` calls it.

        Args:
            dataset: Dataset of the sources.

        Raises:
            ValueError: If the dataset cannot be used.
        """
        self._is_prepared = True
        loaders = [
            step
            for base in {id(b): b for _, b, _ in distinct(dataset)}.values()
            for step in transforms_of(base)
            if hasattr(step, 'with_mask')
        ]
        require(
            self.paste_by_box
            or not loaders
            or any(step.with_mask for step in loaders),
            'SimpleCopyPaste',
            'given gt_masks',
            'with_mask=False in the inner pipeline',
            'Set with_mask=True there, or paste_by_box=True here.',
        )
        self.sources.prepare(dataset)

    def get_indexes(self, dataset: Any) -> list[int]:
        """Return the images to load, for ``MultiImageMixDataset``.

        Args:
            dataset: Dataset of the sources.

        Returns:
            One index; none for a bank.
        """
        if not self._is_prepared:
            print_log(
                "SimpleCopyPaste looks at the data set's annotations in "
                'every worker. Use mmfrozen.CopyPasteDataset in place '
                'of MultiImageMixDataset to do it once.',
                logger='current',
                level=logging.WARNING,
            )
            self.prepare(dataset)
        indexes, self._wanted = self.sources.draw(dataset)
        return indexes

    def transform(self, results: Results) -> Results:
        """Paste objects into the image.

        Args:
            results: Result dict of the image; ``mix_results`` holds the other
                one.

        Returns:
            A new dict that shares all unchanged values.
        """
        if self.prob < 1 and np.random.random_sample() >= self.prob:
            return results
        if isinstance(self.sources, ObjectBank):
            pieces = self.sources.pieces(*results['img'].shape[:2])
            pieces = self._uncovered(pieces, results['img'].shape[:2])
        else:
            pieces = self._pieces(results)
        return self._paste(results, pieces) if pieces else results

    def _pieces(self, results: Results) -> list[Piece]:
        """Return the selected objects of the other image."""
        source = other_image(results)
        check_sizes(source, results)
        usable = ~ignore_flags_of(source)
        masks = self._masks(source)
        crops = masks.crops
        usable &= np.array([crop.bitmap.size > 0 for crop in crops], bool)
        chosen = self._select(np.flatnonzero(usable), source)
        if not len(chosen):
            return []
        overlapping_labels = self._overlapping_labels(
            results, masks, chosen, source
        )
        boxes = boxes_of(source).tensor.numpy()
        labels = source['gt_bboxes_labels']
        segments = source.get('gt_seg_map')
        return [
            Piece(
                crops[i],
                crops[i].window(source['img']),
                boxes[i],
                int(labels[i]),
                overlapping_labels if i == chosen[0] else (),
                None if segments is None else crops[i].window(segments),
            )
            for i in chosen
        ]

    def _select(self, usable: np.ndarray, source: Results) -> np.ndarray:
        """Draw a subset, as MMDetection does."""
        if not self.selected:
            return usable
        count = np.random.randint(0, min(len(usable) + 1, self.max_num_pasted))
        drawn = np.random.choice(len(usable), size=count, replace=False)
        chosen = usable[drawn.astype(np.int64)]
        if self._wanted is None:
            return chosen
        wanted = usable[
            np.asarray(source['gt_bboxes_labels'])[usable] == self._wanted
        ]
        others = chosen[~np.isin(chosen, wanted)]
        most = max(1, self.max_num_pasted - 1)
        return np.concatenate((wanted, others))[:most]

    def _masks(self, results: Results) -> CompactMasks:
        masks, size = results.get('gt_masks'), results['img'].shape[:2]
        if masks is not None:
            require(
                (masks.height, masks.width) == size,
                'SimpleCopyPaste',
                f'given gt_masks of the size of the image {size}',
                (masks.height, masks.width),
                'Resize, crop and pad them together.',
            )
            return CompactMasks.of(masks)
        require(
            self.paste_by_box,
            'SimpleCopyPaste',
            'given gt_masks',
            'none',
            'Load them with with_mask=True, or set paste_by_box=True.',
        )
        boxes = boxes_of(results).tensor.numpy()
        return rectangles(boxes, *size)

    @staticmethod
    def _overlapping_labels(
        results: Results,
        masks: CompactMasks,
        chosen: np.ndarray,
        source: Results,
    ) -> tuple[int, ...]:
        """Return labels of objects that are visible inside pasted masks
        without being pasted."""
        if not {federated.NEGATIVE, federated.NOT_EXHAUSTIVE} & set(results):
            return ()
        crops = masks.crops
        union = cover([crops[i] for i in chosen], (masks.height, masks.width))
        labels = source['gt_bboxes_labels']
        return tuple(
            int(labels[i])
            for i in visible_parts(crops, union)
            if i not in chosen
        )

    def _paste(self, results: Results, pieces: list[Piece]) -> Results:
        """Paste pieces into an image."""
        crops, boxes = self._masks(results).crops, boxes_of(results)
        union = cover([p.crop for p in pieces], results['img'].shape[:2])
        touched = visible_parts(crops, union)
        ignored = ignore_flags_of(results)
        annotated = boxes.tensor.numpy()
        gone = {
            i
            for i, crop in touched.items()
            if not self._is_kept(crop, annotated[i], ignored[i])
        }
        result = dict(results)
        federated.update(
            result,
            [piece.label for piece in pieces],
            [label for piece in pieces for label in piece.overlapping_labels],
            [
                results['gt_bboxes_labels'][i]
                for i in gone
                if touched[i].bitmap.size
            ],
        )
        kept = [i for i in range(len(crops)) if i not in gone]
        crops = [touched.get(i, crop) for i, crop in enumerate(crops)]
        join(result, pieces, crops, kept, touched.keys() - gone)
        paint(result, results, pieces, union, self.blend_sigma)
        return result

    def _is_kept(self, seen: Crop, box: np.ndarray, ignored: bool) -> bool:
        """Return whether a partly hidden object stays annotated."""
        if not seen.bitmap.size:
            return False
        moved = np.abs(np.array(seen.box) - box[:4]).max()
        return bool(
            ignored
            or moved <= self.bbox_occluded_thr
            or seen.bitmap.sum() > self.mask_occluded_thr
        )

    def _uncovered(
        self, pieces: list[Piece], shape: tuple[int, ...]
    ) -> list[Piece]:
        """Remove what later pieces cover; drop pieces that are hardly
        visible."""
        occupied = np.zeros(shape, np.uint8)
        found: list[Piece] = []
        for piece in reversed(pieces):
            below = piece.crop.window(occupied)
            seen = tighten(*piece.crop[:2], piece.crop.bitmap & (below ^ 1))
            if self._is_kept(seen, piece.box, False):
                found.insert(0, piece.cut_to(seen))
                seen.window(occupied)[...] |= seen.bitmap
        return found


def _check(prob: object, max_num_pasted: object) -> None:
    require(
        is_number(prob) and 0 <= prob <= 1,  # type: ignore[operator]
        'SimpleCopyPaste.prob',
        'a probability from 0 to 1',
        prob,
        '1 pastes into every image.',
    )
    require(
        isinstance(max_num_pasted, int) and max_num_pasted >= 1,
        'SimpleCopyPaste.max_num_pasted',
        'a whole number from 1 on',
        max_num_pasted,
        'Set prob=0 to paste nothing.',
    )
