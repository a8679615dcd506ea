"""Compare AP of a run and its control after equal steps and equal time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...evaluation.bootstrap import RESAMPLES
from ...evaluation.ground_truth import GroundTruth
from ...evaluation.matches import IouType, Matches
from ...evaluation.strata import Bins, frequency_bins, stated_counts
from ...run_files import STRATA, StepsInTurn
from ..runs.costs import CostRow, compare_work_dirs
from ..runs.evaluations import check_evaluations
from ..runs.learning_curves import read_aps
from ..runs.step_costs import choose, read_step_costs
from ..runs.work_dir import read_run
from ..strata.inputs import MATCHES
from ..strata.paired_bootstrap import bin_gains, resample
from ..strata.record import Estimate

CONFIDENCE = 0.95
IOU_TYPES: dict[IouType, str] = {'bbox': 'box AP', 'segm': 'mask AP'}
#: Costs that the page shows in addition to times, if both runs recorded them.
COSTS = (
    'FLOPs of a step',
    'CUDA allocated, peak',
    'resident set in steps, peak',
    'trainable',
)


@dataclass(frozen=True)
class ApGain:
    """One AP of a run and its control, as fractions of 1.

    Attributes:
        name: Name of the AP, such as ``'box APr'``.
        run: AP of the run, with its interval over images.
        control: AP of the control, likewise.
        gain: Their difference, with an interval by paired bootstrap.
    """

    name: str
    run: Estimate
    control: Estimate
    gain: Estimate

    @property
    def verdict(self) -> str:
        """Interpretation of the interval of the difference."""
        if self.gain.low is None:
            return 'no interval'
        if not self.gain.is_clear:
            return 'no difference shown'
        return 'gain' if (self.gain.value or 0) > 0 else 'loss'


@dataclass(frozen=True)
class Budget:
    """A run and its control, each at the end of its own schedule.

    Attributes:
        title: ``'equal steps'`` or ``'equal time'``.
        run_steps: Training steps of the run.
        control_steps: Training steps of the control.
        gains: APs of both, with their differences.
    """

    title: str
    run_steps: int
    control_steps: int
    gains: list[ApGain]


@dataclass(frozen=True)
class PairComparison:
    """Comparison of a run with its control: costs and AP.

    Attributes:
        experiment: Name of the config.
        state: State of the run.
        control: State of the control.
        times: Times of steps in turn; None where they were not measured.
        costs: Costs of one training step that the runs recorded.
        budgets: Equal steps, and equal time if it was requested.
        seed: Seed of the run; None where it is not known.
        num_images: Number of evaluated images; None without intervals.
    """

    experiment: str
    state: str
    control: str
    times: StepsInTurn | None
    costs: list[CostRow]
    budgets: list[Budget]
    seed: int | None
    num_images: int | None

    def seconds(self, budget: Budget) -> tuple[float, float]:
        """Return the training times of run and control, in seconds.

        They are the numbers of steps times the median time of a step. If times
        were not measured, the numbers of steps are returned.
        """
        if self.times is None:
            return budget.run_steps, budget.control_steps
        return (
            budget.run_steps * self.times.run.median,
            budget.control_steps * self.times.control.median,
        )


def compare_pair(
    run: Path,
    control: Path,
    longer: Path | None,
    times: StepsInTurn | None,
) -> PairComparison:
    """Compare work dirs of trained runs.

    Args:
        run: Work dir of the run, ``STATE/NAME``.
        control: Work dir of its control, trained for as many steps.
        longer: Work dir of the run that was trained for the same time as
            the control; None if there is none.
        times: Times of steps in turn; None if they were not measured.

    Raises:
        FileNotFoundError: If a run was not trained.
        ValueError: If the runs were evaluated differently, or a file in the
            work dirs does not have the expected content.
    """
    runs = {'equal steps': run}
    if longer is not None:
        runs['equal time'] = longer
    check_evaluations([*runs.values(), control])
    num_images = None
    budgets = []
    for title, path in runs.items():
        steps = [read_run(p).step or 0 for p in (path, control)]
        pairs = [_read_matches(path, control, kind) for kind in IOU_TYPES]
        matches = [pair for pair in pairs if pair]
        gains = [row for pair in matches for row in _paired(*pair)]
        if matches and num_images is None:
            num_images = len(matches[0][0].image_ids)
        budgets.append(Budget(title, *steps, gains or _plain(path, control)))
    cost = choose(read_step_costs(run))
    return PairComparison(
        experiment=run.name,
        state=run.parent.name,
        control=control.parent.name,
        times=times,
        costs=[
            row
            for row in compare_work_dirs(run, control).rows
            if row.name in COSTS
        ],
        budgets=budgets,
        seed=cost.seed if cost else None,
        num_images=num_images,
    )


def _read_matches(
    run: Path, control: Path, iou_type: IouType
) -> tuple[Matches, Matches, list[Bins]] | None:
    """Read the matches of the last evaluations, and frequency bins (LVIS).

    If a run has no matches, return None.
    """
    files = []
    for work_dir in (run, control):
        found = work_dir.glob(f'**/{MATCHES.format(iou_type=iou_type)}')
        files.append(max(found, key=_age, default=None))
    if None in files:
        return None
    first, second = (Matches.load(file) for file in files)
    evaluation = STRATA.read(files[0].parent)
    families = []
    if first.protocol == 'lvis' and evaluation is not None:
        gt = GroundTruth.read(evaluation.ann_file)
        bins = frequency_bins(gt, stated_counts(gt))
        families = [bins] if bins else []
    return first, second, families


def _age(file: Path) -> int:
    return file.stat().st_mtime_ns


def _paired(
    run: Matches, control: Matches, families: Sequence[Bins]
) -> list[ApGain]:
    samples = resample([run, control], RESAMPLES)
    name = IOU_TYPES[run.iou_type]
    rows = []
    for row in bin_gains(run, samples, families, CONFIDENCE):
        if row.family in ('all', 'frequency'):
            label = '' if row.family == 'all' else row.label
            assert row.control is not None and row.gain is not None
            rows.append(ApGain(name + label, row.ap, row.control, row.gain))
    return rows


def _plain(run: Path, control: Path) -> list[ApGain]:
    """Return the logged APs of both runs, without intervals."""
    a, b = (read_aps(read_run(path).metrics) for path in (run, control))
    return [
        ApGain(name, *map(Estimate, (a[name], b[name], a[name] - b[name])))
        for name in a
        if name in b
    ]
