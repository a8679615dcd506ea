"""Compare result files by strata: the function behind `mmfrozen strata`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluation.bootstrap import RESAMPLES
from ...evaluation.detections import DetectionArrays
from ...evaluation.matches import IouType, Matches, Protocol
from ...evaluation.result_files import PICKLES
from ...run_files import STRATA, StrataRecord
from .class_table import ClassTable
from .errors import (
    Track,
    describe_errors,
    error_costs,
    have_error_types,
    recorded_costs,
    resample_errors,
)
from .files import NOTE, check_record, file_bins, file_classes, read_strata
from .image_files import ImageFiles
from .inputs import (
    Annotations,
    check_file,
    find_results,
    notes_on,
    read_annotations,
    read_run,
    short_names,
)
from .paired_bootstrap import (
    Samples,
    bin_gains,
    class_gains,
    resample,
    running_mean,
)
from .record import StrataGain
from .run_config import find_configs, note_on_labels, read_label_ids

NO_ERRORS = (
    'No error types: matches.*.npz of an earlier release do not contain them. '
    'Evaluate again, or give results.pkl.'
)


@dataclass(frozen=True)
class Request:
    """Options of a comparison.

    Attributes:
        run: Result file or work dir of the run.
        control: Result file or work dir of its control; None to report one
            run.
        ann: Annotations of the evaluated images.
        train_ann: Annotations of the training images; None for the counts
            that an LVIS file states.
        iou_type: Boxes or masks.
        protocol: Evaluation protocol; None to infer it from ``ann``.
        num_resamples: Number of bootstrap resamples of the images.
        seed: Seed of the bootstrap.
        min_images: Minimum number of images with a class that is ranked.
        images: Folder of the images; None to look near ``ann``.
        config: Config of the detectors, whose classes define the labels of a
            ``.pkl``; None for the config in a work dir, else all categories.
        confidence: Confidence level of the intervals.
    """

    run: Path
    control: Path | None
    ann: Path
    train_ann: Path | None
    iou_type: IouType = 'bbox'
    protocol: Protocol | None = None
    num_resamples: int = RESAMPLES
    seed: int = 0
    min_images: int = 5
    images: Path | None = None
    config: Path | None = None
    confidence: float = 0.95

    @property
    def paths(self) -> list[Path]:
        """The run, and the control if there is one."""
        return [p for p in (self.run, self.control) if p is not None]


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison, with the data for example images.

    Attributes:
        gain: Figures of the comparison.
        annotations: Annotations of the evaluated images.
        files: Image files; None if they were not found.
        detections: Detections by name of the run; empty unless they are
            known for every run.
    """

    gain: StrataGain
    annotations: Annotations
    files: ImageFiles | None
    detections: dict[str, DetectionArrays]


def compare(
    request: Request,
    report: Callable[[str], None] = lambda step: None,
    track: Track = iter,
) -> Comparison:
    """Compare a run with its control, or report one run.

    Args:
        request: Options of the comparison.
        report: Called with a description of each step.
        track: Wraps the steps of the resampling for a progress bar.

    Raises:
        ValueError: If a file does not have the expected content.
        OSError: If a file does not exist.
    """
    files = [find_results(path, request.iou_type) for path in request.paths]
    names = _names(request.paths)
    if request.num_resamples < 0:
        raise ValueError(
            '--resamples must be 0 or more, got '
            f'{request.num_resamples}. Choose another number.'
        )
    if request.config is not None:
        check_file(request.config, '--config')
        if not any(file.suffix in PICKLES for file in files):
            raise ValueError(
                '--config must come with a results.pkl, whose labels it '
                f'explains, got {", ".join(map(str, files))}. Remove it.'
            )
    report(f'reading {request.ann}')
    annotations = read_annotations(
        request.ann, request.train_ann, request.protocol
    )
    records = annotations.ground_truth.masks.coco.imgs
    images = ImageFiles(records, request.ann, request.images)
    if any(file.name == STRATA.name for file in files):
        return _compare_records(request, files, names, annotations)
    detections, matches, notes = {}, [], []
    for name, path, file in zip(names, request.paths, files, strict=True):
        report(f'matching {file}')
        has_labels = file.suffix in PICKLES
        configs = find_configs(path, request.config) if has_labels else []
        ids = read_label_ids(configs, annotations.ground_truth, request.config)
        found, matched = read_run(file, annotations, request.iou_type, ids)
        matches.append(matched)
        if found is not None:
            detections[name] = found
            if has_labels and not configs:
                notes += note_on_labels(name, found, annotations.ground_truth)
        notes += notes_on(name, matched)
    limit = _same_limit(matches)
    report('averaging the precision')
    samples = resample(
        matches, request.num_resamples, seed=request.seed, track=track
    )
    errors: dict[str, Any] = {}
    if have_error_types(matches):
        report('correcting errors')
        errors = _errors(request, matches, annotations, track)
    else:
        notes.append(NO_ERRORS)
    table = ClassTable.of(annotations)
    gain = StrataGain(
        **_head(request, names, files, annotations),
        **errors,
        max_dets=limit,
        num_resamples=request.num_resamples,
        notes=tuple(notes),
        bins=bin_gains(
            matches[0], samples, annotations.families, request.confidence
        ),
        classes=class_gains(table, samples['all'], request.confidence),
        running_mean=running_mean(
            samples['all'],
            table.train_annotations,
            request.confidence,
            table.val_images,
        ),
    )
    # example images need the detections of both runs
    complete = len(detections) == len(files)
    return Comparison(
        gain,
        annotations,
        images if images.is_found else None,
        detections if complete else {},
    )


def _errors(
    request: Request,
    matches: Sequence[Matches],
    annotations: Annotations,
    track: Track,
) -> dict[str, Any]:
    """Return the fields of :class:`StrataGain` on types of error."""
    samples = resample_errors(
        matches, request.num_resamples, seed=request.seed, track=track
    )
    families = annotations.families
    confused, calibrated = describe_errors(matches, families)
    costs = error_costs(matches, samples, families, request.confidence)
    return {
        'errors': costs,
        'confusions': confused,
        'calibration': calibrated,
    }


def _compare_records(
    request: Request,
    files: Sequence[Path],
    names: Sequence[str],
    annotations: Annotations,
) -> Comparison:
    """Compare ``strata.json`` of runs without their detections."""
    missing = [f for f in files if f.name != STRATA.name]
    if missing:
        raise ValueError(
            'Both runs must have results where one has only '
            f'{STRATA.name}, got {str(missing[0])!r} beside it. Name two '
            f'{STRATA.name}, or write the results of both with `mim test '
            'mmdet CONFIG --checkpoint CHECKPOINT --out results.pkl`.'
        )
    records = [read_strata(file, request.iou_type) for file in files]
    for file, record in zip(files, records, strict=True):
        check_record(file, record, annotations)
    limit = _same_limit([r for r in records if r.max_dets is not None])
    for name in ('confidence', 'resamples', 'seed'):
        values = [getattr(record, name) for record in records]
        if None not in values and len(set(values)) > 1:
            raise ValueError(
                f'Intervals of both runs must have the same {name}, got '
                f'{values[0]} and {values[1]}. Evaluate one again.'
            )
    run, *rest = records
    control = rest[0] if rest else None
    table = ClassTable.of(annotations)
    classes = file_classes(run, control, table)
    shown = Samples.of([row.shown.value for row in classes])
    bins = file_bins(run, control)
    errors: dict[str, Any] = {}
    if have_error_types(records):
        errors = {
            'errors': recorded_costs(records, bins),
            'confusions': tuple(tuple(r.confusions or ()) for r in records),
            'calibration': tuple(tuple(r.calibration or ()) for r in records),
        }
    gain = StrataGain(
        **_head(request, names, files, annotations)
        | {'confidence': run.confidence, 'seed': run.seed or 0},
        **errors,
        max_dets=limit,
        num_resamples=run.resamples if control is None else 0,
        notes=(NOTE,) if control is not None else (),
        bins=bins,
        classes=classes,
        running_mean=running_mean(
            [shown], table.train_annotations, run.confidence
        ),
    )
    return Comparison(gain, annotations, None, {})


def _same_limit(evaluated: Sequence[Matches | StrataRecord]) -> int | None:
    """Refuse different limits of detections; return the common one."""
    limits = sorted({one.max_dets or 0 for one in evaluated})
    if len(limits) > 1:
        raise ValueError(
            'Both runs must be evaluated with the same number of detections '
            f'(max_dets), got {" and ".join(map(str, limits))}. Compare '
            'their results instead.'
        )
    return limits[0] if limits else None


def _head(
    request: Request,
    names: Sequence[str],
    files: Sequence[Path],
    annotations: Annotations,
) -> dict[str, Any]:
    return {
        'run': names[0],
        'control': names[1] if len(names) > 1 else None,
        'sources': tuple(str(file) for file in files),
        'ann': str(request.ann),
        'train_ann': annotations.counts.source,
        'iou_type': request.iou_type,
        'protocol': annotations.protocol,
        'num_images': len(annotations.ground_truth.image_ids),
        'confidence': request.confidence,
        'seed': request.seed,
        'min_images': request.min_images,
    }


def _names(paths: Sequence[Path]) -> list[str]:
    names = short_names(paths)
    if len(set(names)) == len(names):
        return names
    return [f'{name} ({n})' for n, name in enumerate(names, start=1)]
