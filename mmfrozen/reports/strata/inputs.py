"""Find and read the inputs of `mmfrozen strata`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...evaluation.detections import DetectionArrays
from ...evaluation.ground_truth import GroundTruth
from ...evaluation.match_detections import match
from ...evaluation.matches import IouType, Matches, Protocol
from ...evaluation.result_files import read_results
from ...evaluation.strata import (
    Bins,
    TrainingCounts,
    frequency_bins,
    log_spaced_bins,
    stated_counts,
    training_counts,
)
from ...run_files import STRATA

#: Names of result files in a work dir.
RESULTS = ('*.pkl', '*.pickle', '*.{iou_type}.json', '*results*.json')
#: Name of the matches that mmfrozen's metrics write.
MATCHES = 'matches.{iou_type}.npz'
DEPTH = 3  # levels of folders that are searched, including the work dir
#: Shares of images and of classes without a detection that cause a note.
MANY_IMAGES, MANY_CLASSES = 0.2, 0.5


@dataclass(frozen=True)
class Annotations:
    """Annotations that both runs are evaluated with.

    Attributes:
        ground_truth: Ground truth of the evaluated images.
        counts: Counts of the training set.
        families: Bins by frequency, training annotations, training images.
        protocol: ``'lvis'`` or ``'coco'``.
    """

    ground_truth: GroundTruth
    counts: TrainingCounts
    families: tuple[Bins, Bins, Bins]
    protocol: Protocol


def read_annotations(
    ann: Path, train_ann: Path | None, protocol: Protocol | None = None
) -> Annotations:
    """Read the annotations and bin their categories.

    Args:
        ann: Annotations of the evaluated images.
        train_ann: Annotations of the training images; None for the counts
            that LVIS files state.
        protocol: Evaluation protocol; None for LVIS if ``ann`` has
            frequencies and categories that are known to be absent from images,
            else COCO.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file does not have the expected content.
    """
    check_file(ann, '--ann')
    if train_ann is not None:
        check_file(train_ann, '--train-ann')
    with _option_names():
        gt = GroundTruth.read(ann)
        counts = (
            training_counts(train_ann, gt) if train_ann else stated_counts(gt)
        )
    if not (~gt.is_crowd & ~gt.is_ignored).any():
        raise ValueError(
            f'--ann must hold instances to find, got none in {str(ann)!r}. '
            'Name the annotations of the validation set.'
        )
    if counts is None:
        raise ValueError(
            '--train-ann must name the training annotations where --ann '
            f'states no counts, got none for {str(ann)!r}. Name the file '
            'that the detectors were trained on.'
        )
    frequency = frequency_bins(gt, counts)
    assert frequency is not None  # there are counts
    families = (
        frequency,
        log_spaced_bins(counts.instances, 'training_annotations'),
        log_spaced_bins(counts.images, 'training_images'),
    )
    is_federated = bool(gt.frequencies) and len(gt.negative) > 0
    return Annotations(
        ground_truth=gt,
        counts=counts,
        families=families,
        protocol=protocol or ('lvis' if is_federated else 'coco'),
    )


@contextmanager
def _option_names() -> Iterator[None]:
    """Name command-line options instead of metric arguments in errors."""
    try:
        yield
    except ValueError as error:
        text = str(error).replace('train_ann_file', '--train-ann')
        raise ValueError(text.replace('ann_file', '--ann')) from error


def check_file(path: Path, option: str) -> None:
    """Refuse a path that is not a file; the message names the option.

    Raises:
        FileNotFoundError: If it does not exist.
        IsADirectoryError: If it is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f'{option} must name a file, got the folder {str(path)!r}. Name '
            'the annotation file in it.'
        )
    if not path.is_file():
        raise FileNotFoundError(
            f'{option} must name an existing file, got {str(path)!r}. '
            'Correct the path.'
        )


def find_results(path: Path, iou_type: IouType) -> Path:
    """Find the result file of a run.

    Args:
        path: A result file, or a work dir that contains one.
        iou_type: Selects ``*.bbox.json`` or ``*.segm.json``.

    Returns:
        The file itself, or the newest result file of a work dir; if there is
        none, the newest ``matches.*.npz``, else ``strata.json``.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(
            'RUN_OR_RESULTS must be a result file or a work dir, got '
            f'{str(path)!r}, which does not exist. Correct the path.'
        )
    other = 'segm' if iou_type == 'bbox' else 'bbox'
    for patterns in (RESULTS, (MATCHES,), (STRATA.name,)):
        found = [
            file
            for pattern in patterns
            for depth in range(DEPTH)
            for file in path.glob(
                '*/' * depth + pattern.format(iou_type=iou_type)
            )
            if file.is_file() and not file.name.endswith(f'.{other}.json')
        ]
        if found:
            return max(found, key=lambda file: file.stat().st_mtime_ns)
    raise FileNotFoundError(
        f'A work dir must hold results (results.pkl, *.{iou_type}.json) or '
        f'{STRATA.name}, got {str(path)!r} without. Write them with `mim test '
        'mmdet CONFIG --checkpoint CHECKPOINT --out results.pkl`.'
    )


def read_run(
    path: Path,
    annotations: Annotations,
    iou_type: IouType,
    ids: np.ndarray | None = None,
) -> tuple[DetectionArrays | None, Matches]:
    """Read the results of a run and match them with the ground truth.

    Args:
        path: From :func:`find_results`.
        annotations: Annotations of the evaluated images.
        iou_type: Boxes or masks.
        ids: Category ids of the labels in a ``.pkl``; None for all
            categories.

    Returns:
        Its detections, or None if only the matches were kept, and its
        matches.

    Raises:
        ValueError: If they are empty, or of other annotations.
        FileNotFoundError: If the file does not exist.
    """
    if path.suffix == '.npz':
        return None, _read_matches(path, annotations, iou_type)
    detections = read_results(path, annotations.ground_truth, ids)
    _refuse_empty(path, len(detections))
    try:
        matches = match(
            annotations.ground_truth,
            detections,
            iou_type=iou_type,
            protocol=annotations.protocol,
        )
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    return detections, matches


def _read_matches(
    path: Path, annotations: Annotations, iou_type: IouType
) -> Matches:
    matches = Matches.load(path)
    _refuse_empty(path, len(matches.scores))
    gt = annotations.ground_truth
    wanted = (iou_type, annotations.protocol)
    if (matches.iou_type, matches.protocol) != wanted:
        raise ValueError(
            f'{str(path)!r} must hold {iou_type} AP by the '
            f'{annotations.protocol} protocol, got {matches.iou_type} by '
            f'{matches.protocol}. Choose another --iou-type or --protocol.'
        )
    same = (
        np.array_equal(matches.image_ids, gt.image_ids)
        and np.array_equal(matches.category_ids, gt.category_ids)
        and len(matches.gt_images) == len(gt.images)
    )
    if not same:
        raise ValueError(
            f'{str(path)!r} must be of the images and categories of --ann, '
            f'got {len(matches.image_ids):,} images and '
            f'{len(matches.category_ids):,} categories that are not those '
            f'{len(gt.image_ids):,} and {len(gt.category_ids):,}. Name the '
            'annotations that the run was evaluated on.'
        )
    check_digest(path, matches.annotations, annotations)
    return matches


def check_digest(
    path: Path, digest: str | None, annotations: Annotations
) -> None:
    """Refuse an evaluation whose annotations have changed since.

    Args:
        path: File of the evaluation.
        digest: Digest of its annotations; None or empty in older files, which
            are not checked.
        annotations: Annotations of ``--ann``.

    Raises:
        ValueError: If they differ.
    """
    if digest and digest != annotations.ground_truth.digest:
        raise ValueError(
            f'{str(path)!r} must be evaluated against the boxes of --ann, got '
            'others of the same images. Evaluate again, or name the '
            'annotations that the run was evaluated on.'
        )


def _refuse_empty(path: Path, number: int) -> None:
    if not number:
        raise ValueError(
            f'Results must hold detections, got none in {str(path)!r}. '
            'Without detections AP measures nothing: run the test again.'
        )


def notes_on(name: str, matches: Matches) -> list[str]:
    """Return notes if many images or classes have no detection."""
    notes = []
    total = len(matches.image_ids)
    without = total - int(matches.is_evaluated.sum())
    if without > MANY_IMAGES * total:
        notes.append(
            f'{name} has no detection in {without:,} of {total:,} images; '
            'their objects count as missed.'
        )
    present = matches.num_instances() > 0
    found = np.zeros(len(present), bool)
    found[matches.categories] = True
    missed, total = int((present & ~found).sum()), int(present.sum())
    if missed > MANY_CLASSES * total:
        notes.append(
            f'{name} has no detection of {missed:,} of {total:,} classes; '
            'their AP is 0. If it was trained on fewer classes, evaluate it '
            'on annotations of those.'
        )
    return notes


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that differ, without suffixes.

    ``frozen/x/results.pkl`` and ``finetuned/x/results.pkl`` give
    ``frozen/x/results`` and ``finetuned/x/results``.
    """
    parts = [_without_suffix(path.resolve()).parts for path in paths]
    if len(set(parts)) == 1:
        return [names[-1] for names in parts]
    length = 1
    while len({names[-length:] for names in parts}) == 1:
        length += 1
    return ['/'.join(names[-length:]) for names in parts]


def _without_suffix(path: Path) -> Path:
    """Return a path without suffixes of result files, keeping other dots."""
    name = path.name
    for suffix in ('.json', '.pkl', '.pickle', '.npz', '.bbox', '.segm'):
        name = name.removesuffix(suffix)
    return path.with_name(name or path.name)
