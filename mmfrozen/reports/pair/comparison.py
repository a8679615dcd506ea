"""AP of a run and its control after equal steps, and after equal time."""

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
#: Costs that the page shows beside the times, as far as both runs have them.
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
        name: Such as ``'box APr'``.
        run: Of the run, with its interval over images.
        control: Of the control.
        gain: Their difference, on the same resamples of the images.
    """

    name: str
    run: Estimate
    control: Estimate
    gain: Estimate

    @property
    def verdict(self) -> str:
        """What the interval of the difference says, in words."""
        if self.gain.low is None:
            return 'no interval'
        if not self.gain.is_clear:
            return 'no difference shown'
        return 'gain' if (self.gain.value or 0) > 0 else 'loss'


@dataclass(frozen=True)
class Budget:
    """A run beside the control, each at the end of its own schedule.

    Attributes:
        title: ``'equal steps'`` or ``'equal time'``.
        run_steps: Training steps of the run.
        control_steps: Of the control.
        gains: AP of both.
    """

    title: str
    run_steps: int
    control_steps: int
    gains: list[ApGain]


@dataclass(frozen=True)
class PairComparison:
    """What freezing brought.

    Attributes:
        experiment: Name of the config.
        state: Of the run.
        control: Of its control.
        times: Of steps in turn; None where they were not measured.
        costs: Of one training step, from what the runs recorded.
        budgets: Equal steps, and equal time if it was asked for.
        seed: Of both runs; None where it is not known.
        num_images: Evaluated; None where there are no intervals.
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
        """Training time of the run and the control: steps at the median of
        the steps in turn. Without times, steps."""
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
        control: Of its control, likewise, of as many steps.
        longer: Of the run that took as long as the control; None if there
            is none.
        times: Of steps in turn.

    Raises:
        FileNotFoundError: If one was not trained.
        ValueError: If they were evaluated otherwise, or a file in them is
            not what it should be.
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
            num_images = int(matches[0][0].is_evaluated.sum())
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
    """What the last evaluations matched, and bins by frequency (LVIS)."""
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
    """Without intervals, from what the evaluators logged."""
    a, b = (read_aps(read_run(path).metrics) for path in (run, control))
    return [
        ApGain(name, *map(Estimate, (a[name], b[name], a[name] - b[name])))
        for name in a
        if name in b
    ]
