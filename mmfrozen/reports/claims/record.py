"""Records of the runs of claims: small files, kept in the repository."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ...run_files import STRATA, ParameterCounts, RunFile
from ...tracing.traced_step import TracedStep
from ..pair.comparison import compare_pair
from ..runs.comparison import ComparedRun, read_runs
from ..runs.learning_curves import LoggedEvaluation
from .cells import RATES, STATES, Cell, all_cells, tuning_cells

#: Of a record, and shown.
APS = ('box AP', 'box APr', 'box APc', 'box APf', 'mask AP', 'mask APr')


@dataclass(frozen=True)
class Bin:
    """AP of the classes with so many training annotations.

    Attributes:
        name: Such as ``'10-31'``.
        low: Least number of annotations.
        high: Greatest; None where there is none.
        num: Classes that are evaluated.
        ap: Box AP as a fraction of 1.
    """

    name: str
    low: float | None
    high: float | None
    num: int
    ap: float


@dataclass(frozen=True)
class ImageGain:
    """A difference with its interval over images, as fractions of 1.

    Attributes:
        name: Of the AP, such as ``'box AP'``.
        value: Of the frozen run less the fine-tuned one, of the same seed.
        low: Lower end of the interval; None where it is not defined.
        high: Upper end.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClaimRun:
    """One run, as ``mmfrozen reproduce`` records it.

    Attributes:
        cell: Name of its cell.
        config: ``STATE/NAME``, of the pack.
        options: Of ``--cfg-options``, but for the files of a held-out split.
        rate: Learning rate.
        seed: Of the run.
        date: On which it was recorded.
        revision: ``git describe`` of the code that recorded it; None
            outside of a clone.
        versions: Of the packages that matter.
        device: Model of the CPU, and threads.
        last: AP of the last evaluation, by name, as fractions of 1.
        best: Of the evaluation with the greatest box AP.
        best_step: Training steps done at ``best``.
        bins: Box AP by number of training annotations, of the last one.
        step_seconds: Median time of a training step.
        train_seconds: Of all steps.
        flops: Of a training step, from the tracer.
        kept_bytes: Kept for the backward pass, from the tracer.
        peak_bytes: Peak of a training step, from the tracer.
        parameters: Of the detector.
        drift: Relative L2 of the backbone's move.
        over_images: Of a fine-tuned run whose frozen twin was trained on
            the same machine.
    """

    cell: str
    config: str
    options: list[str]
    rate: float
    seed: int
    date: str
    revision: str | None
    versions: dict[str, str]
    device: str
    last: dict[str, float]
    best: dict[str, float]
    best_step: int
    bins: list[Bin]
    step_seconds: float
    train_seconds: float
    flops: int
    kept_bytes: int
    peak_bytes: int
    parameters: ParameterCounts
    drift: float | None
    over_images: list[ImageGain]


CLAIM_RUN = RunFile('run.json', ClaimRun, 'mmfrozen reproduce')


def record_file(folder: Path, cell: Cell) -> Path:
    """Where the record of a run is."""
    return folder / f'{cell.name}.json'


def read_records(folder: Path) -> dict[Cell, ClaimRun]:
    """Read what is recorded of all cells.

    Raises:
        ValueError: If a file is no record, or its run is not of the rate
            that the tuning runs choose.
    """
    found = {
        cell: record
        for cell in all_cells()
        if (record := CLAIM_RUN.read(record_file(folder, cell)))
    }
    rates = choose_rates(found)
    for cell, record in found.items():
        rate = cell.tuned or rates.get(cell.state)
        if record.rate != rate:
            raise ValueError(
                f'{record_file(folder, cell)} must be of the rate that the '
                f'tuning runs choose for {cell.state}, {rate}, got '
                f'{record.rate:g}. Remove it.'
            )
    return found


def choose_rates(records: dict[Cell, ClaimRun]) -> dict[str, float]:
    """The rate with the greatest box AP on the held-out split, by state; of
    states whose tuning is complete."""
    found = {}
    for state in STATES:
        tried = {
            cell.tuned: records[cell].last['box AP']
            for cell in tuning_cells()
            if cell.state == state and cell in records
        }
        if len(tried) == len(RATES):
            found[state] = max(RATES, key=lambda rate: tried[rate])
    return found


def make_record(
    cell: Cell,
    config: str,
    rate: float,
    work_dir: Path,
    twin: Path | None,
    trace: Callable[[], TracedStep],
) -> ClaimRun:
    """Put what a run left in its work dir into a record.

    Args:
        cell: Of the run.
        config: ``STATE/NAME``.
        rate: Its learning rate.
        work_dir: Of the run.
        twin: Of the frozen run of the same seed; None where there is none.
        trace: Traces a training step of it.

    Raises:
        OSError: If something is not there.
        ValueError: If a file in it is not what it should be.
    """
    [run] = read_runs([work_dir])
    if not (run.curve.evaluations and run.cost and run.backbone):
        raise ValueError(
            f'{work_dir} must hold a run with all of its files, got one '
            f'without {"; ".join(run.missing)}. Remove it, and run again.'
        )
    nothing = dict.fromkeys(APS, 0.0)  # detected: then there is no AP
    step = trace()
    best = max(run.curve.evaluations, key=_box_ap)
    return ClaimRun(
        cell=cell.name,
        config=config,
        options=cell.options(rate),
        rate=rate,
        seed=cell.seed,
        date=date.today().isoformat(),
        revision=_describe(),
        versions=run.cost.versions,
        device=run.cost.device,
        last=run.aps or nothing,
        best=best.aps or nothing,
        best_step=best.iter,
        bins=_read_bins(work_dir),
        step_seconds=run.step_seconds or 0.0,
        train_seconds=run.curve.steps[-1].seconds,
        flops=step.total.flops.total,
        kept_bytes=step.total.saved_bytes,
        peak_bytes=step.peak_bytes,
        parameters=run.backbone.model,
        drift=_drift(run),
        over_images=_over_images(twin, work_dir) if twin else [],
    )


def _box_ap(evaluation: LoggedEvaluation) -> float:
    return evaluation.aps.get('box AP', 0.0)


def _drift(run: ComparedRun) -> float | None:
    return run.drift[-1].stages['all'].relative_l2 if run.drift else None


def _read_bins(work_dir: Path) -> list[Bin]:
    evaluation = STRATA.read(work_dir)
    rows = [
        row
        for record in (evaluation.records if evaluation else [])
        if record.iou_type == 'bbox'
        for row in record.strata
        if row.by == 'training_annotations'
    ]
    return [
        Bin(r.name, r.low, r.high, num, r.ap or 0.0)
        for r in rows
        if (num := r.num_categories - r.num_absent)  # that are evaluated
    ]


def _over_images(frozen: Path, finetuned: Path) -> list[ImageGain]:
    pair = compare_pair(frozen, finetuned, None, None)
    return [
        ImageGain(g.name, g.gain.value, g.gain.low, g.gain.high)
        for g in pair.budgets[0].gains
    ]


def _describe() -> str | None:
    """The commit that the code is of."""
    done = subprocess.run(
        ('git', 'describe', '--always', '--dirty'),
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
