"""Match detections with ground truth once, for any number of APs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..gc_paused import gc_paused
from .detections import DetectionArrays
from .greedy import AREAS, IOU_THRESHOLDS
from .ground_truth import GroundTruth
from .matches import IouType, Matches, Protocol
from .result_files import result_parts
from .stream_matcher import Matcher

#: Number of detections of a file that are matched at a time.
BATCH = 1 << 16

__all__ = ['AREAS', 'IOU_THRESHOLDS', 'Matcher', 'Matches', 'match']


def match(
    gt: GroundTruth | Mapping[str, Any],
    detections: DetectionArrays | Iterable[Mapping[str, Any]] | str | Path,
    *,
    iou_type: IouType,
    protocol: Protocol,
    max_dets: int | None = None,
    ids: np.ndarray | None = None,
) -> Matches:
    """Match detections with ground truth, as the official packages do.

    Args:
        gt: Ground truth, or the content of an annotation file in COCO's or
            LVIS's format.
        detections: Detections as arrays or COCO result dicts, or the path of
            a result file, which is matched while it is read.
        iou_type: ``'bbox'`` or ``'segm'``. The area of a detected mask is that
            of the mask, even if its result has a box.
        protocol: ``'coco'`` or ``'lvis'``, which evaluates a category only in
            images where it is annotated or known to be absent.
        max_dets: Number of detections kept, highest scores first: per image
            and category (COCO, default 100), per image (LVIS, default 300);
            -1 for all.
        ids: Category ids of labels in a result file, see
            :func:`~.result_files.read_results`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If detections have images or categories that are not in
            ``gt``, scores that are not finite, or no masks for ``'segm'``.
    """
    if not isinstance(gt, GroundTruth):
        gt = GroundTruth.from_dict(gt)
    matcher = Matcher(
        gt,
        iou_type=iou_type,
        protocol=protocol,
        max_dets=max_dets,
    )
    if isinstance(detections, str | Path):
        return _match_file(matcher, detections, ids)
    if not isinstance(detections, DetectionArrays):
        detections = DetectionArrays.from_dicts(detections)
    return matcher.join([matcher.match_batch(detections)])


@gc_paused()
def _match_file(
    matcher: Matcher, path: str | Path, ids: np.ndarray | None
) -> Matches:
    """Match the images of a result file while it is read.

    Detectors write one image after the other. If an image occurs again later
    in the file, the whole file is read and matched at once instead.
    """

    def read() -> Iterator[DetectionArrays]:
        return result_parts(
            path,
            matcher.gt,
            ids,
            kind=matcher.iou_type,
            is_needed=matcher.is_judged,
        )

    parts = []
    is_seen = np.zeros(len(matcher.gt.image_ids), bool)
    for detections in _batches(read()):
        part = matcher.match_batch(detections)
        if is_seen[part.seen].any():
            whole = DetectionArrays.join(list(read()))
            return matcher.join([matcher.match_batch(whole)])
        is_seen[part.seen] = True
        parts.append(part)
    return matcher.join(parts)


def _batches(parts: Iterable[DetectionArrays]) -> Iterator[DetectionArrays]:
    """Concatenate small parts into batches of at least ``BATCH``."""
    waiting: list[DetectionArrays] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= BATCH:
            yield DetectionArrays.join(waiting)
            waiting = []
    yield DetectionArrays.join(waiting)
