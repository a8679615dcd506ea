"""Read work dirs and pair each run with its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...freezing.drift import ALL
from ...pairing import CONTROLS, EXPERIMENTS
from ...run_files import DRIFT, BackboneRecord, DriftRecord, StepCost
from .evaluations import check_evaluations
from .identify_run import find_experiment, find_state, make_labels
from .learning_curves import LearningCurve, read_aps, read_learning_curve
from .step_costs import choose, read_step_costs
from .work_dir import read_run


@dataclass(frozen=True)
class ComparedRun:
    """Data of one run for the comparison, read from its work dir.

    Attributes:
        path: Path of the work dir, as given on the command line.
        label: Short name, unique among the runs.
        experiment: Name of its config, without the state.
        state: State of the backbone: one of ``STATES``, or ``'unknown'``.
        backbone: State and parameter counts; None for stock runs.
        cost: Cost of a step; of a resumed run, the record with most timed
            steps. None if it was not recorded.
        aps: APs of the last evaluation as fractions of 1, by column title;
            empty if there are none.
        step: Training step of that evaluation; None before the first.
        curve: Logged steps and evaluations.
        drift: Drift of the backbone, in order of training; empty if it was
            not recorded.
        missing: Missing data, and the hooks that would record it.
        logged_step_seconds: Median seconds of a step in MMDetection's log;
            None before the first was logged.
    """

    path: str
    label: str
    experiment: str
    state: str
    backbone: BackboneRecord | None
    cost: StepCost | None
    aps: dict[str, float]
    step: int | None
    curve: LearningCurve
    drift: list[DriftRecord]
    missing: list[str]
    logged_step_seconds: float | None

    @property
    def iters_per_epoch(self) -> int | None:
        """Training steps per epoch, from the loader, else from the log."""
        known = self.cost.iters_per_epoch if self.cost else None
        return known or self.curve.iters_per_epoch

    @property
    def step_seconds(self) -> float | None:
        """Median seconds of a step; from the log if they were not measured."""
        if self.cost and self.cost.seconds:
            return self.cost.seconds['step'].median
        return self.logged_step_seconds

    @property
    def final_drift(self) -> float | None:
        """Relative L2 distance of the backbone at the end from its start."""
        return self.drift[-1].stages[ALL].relative_l2 if self.drift else None

    @property
    def seed(self) -> int | None:
        """Seed of the run; None without a record of StepCostHook."""
        return self.cost.seed if self.cost else None


@dataclass(frozen=True)
class Pair:
    """A run and its control.

    Attributes:
        run: The run with a frozen backbone.
        control: The run whose backbone trains.
    """

    run: ComparedRun
    control: ComparedRun

    @property
    def has_equal_training(self) -> bool:
        """Whether both were last evaluated after as many steps, within 5 %."""
        steps = sorted(
            run.curve.evaluations[-1].iter if run.curve.evaluations else 0
            for run in (self.run, self.control)
        )
        return steps[0] >= 0.95 * steps[1]


def read_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Read the work dirs of several runs.

    Args:
        paths: The work dirs.

    Raises:
        FileNotFoundError: If a path is not a work dir.
        ValueError: If a work dir is named twice, has an invalid file, or was
            evaluated with other settings than the others.
    """
    seen: dict[Path, Path] = {}
    for path in paths:
        twin = seen.setdefault(Path(path).resolve(), path)
        if twin is not path:
            raise ValueError(
                f'Runs must differ, got {str(path)!r} twice. Name each once.'
            )
    check_evaluations(paths)
    names = [(find_experiment(path), find_state(path)) for path in paths]
    labels = make_labels(paths, names)
    return [
        _read(path, label, *name)
        for path, label, name in zip(paths, labels, names, strict=True)
    ]


def _read(path: Path, label: str, experiment: str, state: str) -> ComparedRun:
    record = read_run(path)
    cost = choose(read_step_costs(path))
    curve = read_learning_curve(path)
    drift = read_drift(path)
    aps = read_aps(record.metrics)
    found = {
        'step_cost.json (FLOPs, memory, time by part): add '
        'mmfrozen.StepCostHook': cost,
        'drift.json (how far the backbone moved): add '
        'mmfrozen.DriftHook': drift,
        'backbone.json (state, parameters): add FrozenGuardHook': (
            record.backbone
        ),
        'an evaluation: no AP yet': aps,
    }
    return ComparedRun(
        path=str(path),
        label=label,
        experiment=experiment,
        state=state,
        backbone=record.backbone,
        cost=cost,
        aps=aps,
        step=curve.evaluations[-1].iter if curve.evaluations else record.step,
        curve=curve,
        drift=drift,
        missing=[what for what, it in found.items() if not it],
        logged_step_seconds=record.step_seconds,
    )


def read_drift(work_dir: Path) -> list[DriftRecord]:
    """Read the records of DriftHook; empty if it did not run.

    Raises:
        ValueError: If the file does not have the hook's content.
    """
    records = DRIFT.read(work_dir) or []
    if any(ALL not in record.stages for record in records):
        raise ValueError(
            f'{DRIFT.name} must have the drift of {ALL!r}, got none in '
            f'{str(work_dir)!r}. Remove it.'
        )
    return records


def find_pairs(runs: Sequence[ComparedRun]) -> list[Pair]:
    """Pair each frozen run with its controls.

    A control is a run of the same experiment, fine-tuned or from scratch.
    Controls of the same seed are preferred, if there are any.
    """
    pairs = []
    for run in runs:
        if run.state not in EXPERIMENTS:
            continue
        controls = [
            other
            for other in runs
            if other.state in CONTROLS and other.experiment == run.experiment
        ]
        same = [c for c in controls if c.seed == run.seed]
        pairs += [Pair(run, control) for control in same or controls]
    return pairs
