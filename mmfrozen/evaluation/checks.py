"""Check that detections are valid and belong to the ground truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..annotation_faults import locate
from .detections import DetectionArrays
from .ground_truth import GroundTruth


def check_detections(
    gt: GroundTruth, detections: DetectionArrays, iou_type: str
) -> None:
    """Refuse scores and boxes that are not finite, and masks of wrong size.

    Raises:
        ValueError: If there are any; the message names the first one.
    """
    for scores in (detections.scores, detections.mask_scores):
        if scores is not None and not np.isfinite(scores).all():
            bad = np.flatnonzero(~np.isfinite(scores))
            raise ValueError(
                f'Scores must be finite, got {scores[bad[0]]} in {len(bad)} '
                f'of {len(scores)} detections, the first in image '
                f'{detections.image_ids[bad[0]]}. Look for divergence in '
                'training, or repair the results.'
            )
    boxes = detections.boxes
    if boxes is not None and not np.isfinite(boxes).all():
        bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
        raise ValueError(
            f'Boxes must be finite, got {boxes[bad[0]].tolist()} '
            f'in {len(bad)} of {len(detections)} detections, the first in '
            f'image {detections.image_ids[bad[0]]}. Look for divergence in '
            'training, or repair the results.'
        )
    if iou_type == 'segm' and len(detections):
        _check_masks(gt, detections)


def _check_masks(gt: GroundTruth, detections: DetectionArrays) -> None:
    if detections.masks is None:
        raise ValueError(
            "metric='segm' must have detections with masks, got none with "
            "masks. Use a model with a mask head, or metric='bbox'."
        )
    sizes = detections.masks.sizes
    images, is_known = locate(gt.image_ids, detections.image_ids)
    expected = gt.sizes[images]
    wrong = is_known & expected.any(1) & sizes.any(1)
    wrong &= (sizes != expected).any(1)
    if wrong.any():
        i = np.flatnonzero(wrong)[0]
        raise ValueError(
            f'Masks must have the size of their image, got '
            f'{sizes[i].tolist()} instead of {expected[i].tolist()} (height, '
            f'width) in image {detections.image_ids[i]}. Compare the results '
            f'with {gt.source!r}.'
        )


def locate_images(
    gt: GroundTruth, ids: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the positions of image ids in the ground truth.

    Raises:
        ValueError: If an image is not in the annotation file.
    """
    positions, is_known = locate(gt.image_ids, ids)
    if not is_known.all():
        wrong = np.unique(ids[~is_known])
        raise ValueError(
            'Results must be for the images of the annotation file, got '
            f'{len(wrong)} other images, the first is {wrong[0]}. Compare '
            f'the data set with {gt.source!r}.'
        )
    return positions


def locate_categories(
    gt: GroundTruth, ids: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the positions of category ids in the ground truth.

    Raises:
        ValueError: If a category is not in the annotation file.
    """
    positions, is_known = locate(gt.category_ids, ids)
    if not is_known.all():
        wrong = np.unique(ids[~is_known])
        raise ValueError(
            'Results must have the categories of the annotation file, got '
            f'{len(wrong)} others, the first is {wrong[0]}. Compare the '
            f'classes with {gt.source!r}.'
        )
    return positions
