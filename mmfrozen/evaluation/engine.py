"""Match detections with ground truth once, average the precision often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .detections import DetectionArrays
from .ground_truth import GroundTruth
from .matcher import Matcher
from .matches import IouType, Matches, Protocol
from .matching import AREAS, IOU_THRESHOLDS

__all__ = ['AREAS', 'IOU_THRESHOLDS', 'Matcher', 'Matches', 'match']


def match(
    gt: GroundTruth | Mapping[str, Any],
    detections: DetectionArrays | Iterable[Mapping[str, Any]],
    *,
    iou_type: IouType,
    protocol: Protocol,
    max_dets: int | None = None,
) -> Matches:
    """Match detections with ground truth, as the official packages do.

    Args:
        gt: Ground truth, or the content of an annotation file in COCO's or
            LVIS's format.
        detections: Columns, or COCO result dicts.
        iou_type: Boxes or masks. The area of a detected mask is that of the
            mask, also if its result has a box.
        protocol: ``'lvis'`` judges a category only in the images where it
            is annotated or known to be absent.
        max_dets: Highest scores kept: of each image and category (COCO,
            default 100), of each image (LVIS, default 300); -1 for all.

    Raises:
        ValueError: If detections have images or categories that ``gt``
            lacks, scores that are not finite, or no masks for ``'segm'``.
    """
    if not isinstance(gt, GroundTruth):
        gt = GroundTruth.from_dict(gt)
    if not isinstance(detections, DetectionArrays):
        detections = DetectionArrays.from_dicts(detections)
    matcher = Matcher(
        gt,
        iou_type=iou_type,
        protocol=protocol,
        max_dets=max_dets,
    )
    return matcher.join([matcher.part(detections)])
