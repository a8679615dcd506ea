"""Compare the ``strata.json`` of runs whose detections were not kept."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from ...run_files import STRATA, StrataRecord, Stratum
from .class_table import ClassTable
from .inputs import Annotations, check_digest
from .record import BinGain, ClassGain, Estimate

NOTE = (
    'Compared from strata.json, without the detections: differences have no '
    'intervals. For these, keep results.pkl (mim test ... --out results.pkl).'
)


def read_strata(path: Path, iou_type: str) -> StrataRecord:
    """Read the record of one kind of AP from a ``strata.json``.

    Raises:
        ValueError: If the file is invalid, or lacks that kind of AP.
    """
    evaluation = STRATA.read(path)
    found = [] if evaluation is None else evaluation.records
    for record in found:
        if record.iou_type == iou_type:
            return record
    kinds = ', '.join(record.iou_type for record in found) or 'nothing'
    raise ValueError(
        f'{str(path)!r} must hold {iou_type} AP, got {kinds}. Choose another '
        '--iou-type.'
    )


def check_record(
    path: Path, record: StrataRecord, annotations: Annotations
) -> None:
    """Refuse a record of other annotations.

    Raises:
        ValueError: If it has another protocol or other annotations.
    """
    num_images = len(annotations.ground_truth.image_ids)
    wanted = (annotations.protocol, num_images)
    if (record.protocol, record.num_images) != wanted:
        raise ValueError(
            f'{str(path)!r} must be of {num_images:,} images by the '
            f'{annotations.protocol} protocol, got {record.num_images:,} by '
            f'{record.protocol}. Name the annotations that the run was '
            'evaluated on, or another --protocol.'
        )
    check_digest(path, record.annotations, annotations)


def file_bins(
    run: StrataRecord, control: StrataRecord | None
) -> tuple[BinGain, ...]:
    """Return the bins that both records have, starting with all categories.

    Raises:
        ValueError: If bins of one name differ in categories or instances.
    """
    others = _by_name(control)
    for row in run.strata:
        other = others.get((row.by, row.name), row)
        sizes = [
            (x.num_categories, x.num_absent, x.num_instances)
            for x in (row, other)
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f'Both runs must have the same {row.by} {row.name!r}, got '
                f'{sizes[0][0]} categories with {sizes[0][2]} instances and '
                f'{sizes[1][0]} with {sizes[1][2]}. Evaluate both with the '
                'same ann_file, train_ann_file and classes.'
            )
    return tuple(
        BinGain(
            row.by,
            row.name,
            row.num_categories - row.num_absent,
            row.num_absent,
            row.num_instances,
            *_estimates(row, others, control),
        )
        for row in (_all(run), *run.strata)
        if row.by != 'category'
        and (control is None or (row.by, row.name) in others)
    )


def _all(record: StrataRecord) -> Stratum:
    """Return the stratum of all categories, which the record lacks."""
    rows = [row for row in record.strata if row.by == 'category']
    known = [row.ap for row in rows if row.ap is not None]
    return Stratum(
        by='all',
        name='all',
        low=None,
        high=None,
        num_categories=len(rows),
        num_absent=len(rows) - len(known),
        num_instances=sum(row.num_instances for row in rows),
        ap=fmean(known) if known else None,
        ap_low=None,
        ap_high=None,
    )


def file_classes(
    run: StrataRecord, control: StrataRecord | None, table: ClassTable
) -> tuple[ClassGain, ...]:
    """Return the gain of each category of the annotations.

    Raises:
        ValueError: If a record lacks a category.
    """
    others, own = _by_name(control), _by_name(run)
    rows = []
    for index, name in enumerate(table.names):
        row = own.get(('category', name))
        if row is None or (control and ('category', name) not in others):
            raise ValueError(
                'strata.json must have the categories of --ann, got none '
                f'named {name!r}. Name the annotations that the run was '
                'evaluated on.'
            )
        rows.append(table.row(index, *_estimates(row, others, control)))
    return tuple(rows)


def _by_name(record: StrataRecord | None) -> dict[tuple[str, str], Stratum]:
    rows = [_all(record), *record.strata] if record else []
    return {(row.by, row.name): row for row in rows}


def _estimates(
    row: Stratum,
    others: dict[tuple[str, str], Stratum],
    control: StrataRecord | None,
) -> tuple[Estimate, Estimate | None, Estimate | None]:
    """Return the estimates of the run, the control and their difference."""
    own = Estimate(row.ap, row.ap_low, row.ap_high)
    if control is None:
        return own, None, None
    other = others[row.by, row.name]
    gain = None
    if row.ap is not None and other.ap is not None:
        gain = row.ap - other.ap
    return own, Estimate(other.ap, other.ap_low, other.ap_high), Estimate(gain)
