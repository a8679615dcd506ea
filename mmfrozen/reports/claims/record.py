"""This module makes and reads the records of the runs that test the claims.

Records are small files in the repository, so that no run has to be repeated.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ...run_files import (
    STEPS_IN_TURN,
    STRATA,
    ParameterCounts,
    RunFile,
    StepsInTurn,
)
from ...tracing.traced_step import TracedStep
from ..pair.comparison import compare_pair
from ..runs.comparison import read_runs
from ..runs.learning_curves import LoggedEvaluation
from .cells import (
    CAPACITIES,
    RATES,
    STATES,
    Cell,
    all_cells,
    tuning_cells,
)

#: Names of the APs that are shown.
APS = ('box AP', 'box APr', 'box APc', 'box APf', 'mask AP', 'mask APr')


@dataclass(frozen=True)
class Bin:
    """Box AP of the classes within a range of training annotations.

    Attributes:
        name: Range as text, such as ``'10-31'``.
        low: Smallest number of annotations.
        high: Largest number; None without a limit.
        num: Number of evaluated classes.
        ap: Box AP as a fraction of 1.
    """

    name: str
    low: float | None
    high: float | None
    num: int
    ap: float


@dataclass(frozen=True)
class ImageGain:
    """Difference of APs with its interval over images, as fractions of 1.

    Attributes:
        name: Name of the AP, such as ``'box AP'``.
        value: AP of the frozen run minus that of the fine-tuned run of the
            same seed.
        low: Lower end of the interval; None where it is not defined.
        high: Upper end, likewise.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClaimRun:
    """Record of one run, as ``mmfrozen reproduce`` writes it.

    Attributes:
        cell: Name of the run's cell.
        config: Config of the pack, ``STATE/NAME``.
        options: Values of ``--cfg-options``, without the annotation files of
            the held-out split.
        rate: Learning rate.
        seed: Seed of the run.
        date: Date of the record, in ISO format.
        revision: ``git describe`` of the code that recorded it; None
            outside of a clone.
        versions: Versions of the packages that affect results, by name.
        device: Model of the CPU, and number of threads.
        last: APs of the last evaluation by name, as fractions of 1.
        best: APs of the evaluation with the largest box AP.
        best_step: Number of training steps before that evaluation.
        bins: Box AP of the last evaluation by number of training annotations.
        step_seconds: Median seconds of a training step.
        train_seconds: Seconds of all steps.
        flops: FLOPs of a training step, from the tracer.
        kept_bytes: Bytes kept for the backward pass, from the tracer.
        peak_bytes: Peak bytes of a training step, from the tracer.
        parameters: Parameter counts of the detector.
        drift: Relative L2 distance of the backbone from its initial weights.
        over_images: Differences with intervals over images, for a fine-tuned
            run if the frozen run of the same seed is on the same machine; else
            empty.
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
    drift: float
    over_images: list[ImageGain]


CLAIM_RUN = RunFile('run.json', ClaimRun, 'mmfrozen reproduce')


def record_file(folder: Path, cell: Cell) -> Path:
    """Return the path of a run's record."""
    return folder / f'{cell.name}.json'


def steps_file(folder: Path, variant: str) -> Path:
    """Return the path of a variant's step times, measured in turn."""
    return folder / f'{variant}_steps_in_turn.json'


def read_times(folder: Path) -> dict[str, StepsInTurn]:
    """Read the step times of all variants for which they were measured.

    Raises:
        ValueError: If a file has other content.
    """
    return {
        variant: times
        for variant in CAPACITIES
        if (times := STEPS_IN_TURN.read(steps_file(folder, variant)))
    }


def read_records(folder: Path) -> dict[Cell, ClaimRun]:
    """Read the records of all cells that have one.

    Raises:
        ValueError: If a file is not a record, or its learning rate is not the
            one that the tuning runs choose.
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
    """Return the best learning rate of each state with complete tuning runs.

    It is the rate with the largest box AP on the held-out split.
    """
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
    """Return the record of a run, read from its work dir.

    Args:
        cell: Cell of the run.
        config: Config of the pack, ``STATE/NAME``.
        rate: Learning rate of the run.
        work_dir: Work dir of the run.
        twin: Work dir of the frozen run of the same seed; None without one.
        trace: Called to trace a training step of the run.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file is malformed, or the run is incomplete.
    """
    [run] = read_runs([work_dir])
    if not (
        run.curve.evaluations
        and run.curve.steps
        and run.cost
        and run.backbone
        and run.final_drift is not None
        and run.step_seconds
    ):
        raise ValueError(
            f'{work_dir} must hold a run with all of its files, got one '
            f'without {"; ".join(run.missing) or "logged steps"}. Remove it, '
            'and run again.'
        )
    nothing = dict.fromkeys(APS, 0.0)  # without detections no AP is logged
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
        step_seconds=run.step_seconds,
        train_seconds=run.curve.steps[-1].seconds,
        flops=step.total.flops.total,
        kept_bytes=step.total.saved_bytes,
        peak_bytes=step.peak_bytes,
        parameters=run.backbone.model,
        drift=run.final_drift,
        over_images=_over_images(twin, work_dir) if twin else [],
    )


def _box_ap(evaluation: LoggedEvaluation) -> float:
    return evaluation.aps.get('box AP', 0.0)


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
        if (num := r.num_categories - r.num_absent)  # evaluated classes
    ]


def _over_images(frozen: Path, finetuned: Path) -> list[ImageGain]:
    pair = compare_pair(frozen, finetuned, None, None)
    return [
        ImageGain(g.name, g.gain.value, g.gain.low, g.gain.high)
        for g in pair.budgets[0].gains
    ]


def _describe() -> str | None:
    """Return ``git describe`` of the code; None outside of a clone."""
    done = subprocess.run(
        ('git', 'describe', '--always', '--dirty'),
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
