"""Summarize compared runs in dataclasses, for tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...cost import Flops
from ...run_files import ParameterCounts
from .comparison import ComparedRun, Pair
from .costs import CostRow, compare, find_differences
from .learning_curves import LoggedEvaluation
from .seeds import SeedSummary, summarise_seeds
from .step_costs import peak_bytes, total_flops


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run. Unknown values are None or empty.

    Attributes:
        run: Path of the work dir.
        label: Short name.
        experiment: Name of the config, without the state.
        state: State of the backbone.
        step: Training step of the last evaluation.
        aps: APs of that evaluation, as fractions of 1.
        flops: FLOPs of a step in one process, 2 per multiply-add.
        peak_bytes: Peak memory: allocated on CUDA, resident on other devices.
        step_seconds: Median time of a step, in seconds.
        joules_per_step: Mean energy of a step, in joules.
        parameters: Parameter counts of the model.
        drift: Relative L2 of the backbone's drift at the end.
        evaluations: All evaluations.
        missing: Data that the work dir lacks.
    """

    run: str
    label: str
    experiment: str
    state: str
    step: int | None
    aps: dict[str, float]
    flops: Flops | None
    peak_bytes: int | None
    step_seconds: float | None
    joules_per_step: float | None
    parameters: ParameterCounts | None
    drift: float | None
    evaluations: list[LoggedEvaluation]
    missing: list[str]


@dataclass(frozen=True)
class PairSummary:
    """Comparison of a frozen run with its control.

    Attributes:
        run: Label of the frozen run.
        control: Label of its control.
        gains: Differences of the APs by name, as fractions of 1.
        costs: Costs of both, with their ratios.
        warnings: Differences in conditions of training and measurement.
    """

    run: str
    control: str
    gains: dict[str, float]
    costs: list[CostRow]
    warnings: list[str]


@dataclass(frozen=True)
class RunsRecord:
    """Result of ``mmfrozen compare``.

    Attributes:
        runs: The runs, in the order of the command line.
        pairs: Pairs of these runs.
        seeds: Summaries of pairs that differ in their seed.
        notes: Missing data, warnings and verdicts, one per line.
    """

    runs: list[RunSummary]
    pairs: list[PairSummary]
    seeds: list[SeedSummary]
    notes: list[str]


def summarise(
    runs: Sequence[ComparedRun], pairs: Sequence[Pair]
) -> RunsRecord:
    """Summarize runs and their pairs."""
    notes = [f'{r.label} lacks {what}' for r in runs for what in r.missing]
    paired = {run.label for pair in pairs for run in (pair.run, pair.control)}
    alone = [run.label for run in runs if run.label not in paired]
    if len(runs) > 1 and alone:
        notes.append(
            f'no pair for {"; ".join(alone)}: runs are paired by the name of '
            'their config, frozen with finetuned or scratch; name others '
            'with --pair FROZEN CONTROL'
        )
    summaries = [summarise_pair(pair) for pair in pairs]
    for pair in summaries:
        notes += [f'{pair.run} / {pair.control}: {w}' for w in pair.warnings]
    seeds = summarise_seeds(pairs)
    notes += [summary.verdict for summary in seeds]
    return RunsRecord(
        [summarise_run(run) for run in runs], summaries, seeds, notes
    )


def summarise_run(run: ComparedRun) -> RunSummary:
    """Summarise a run."""
    return RunSummary(
        run=run.path,
        label=run.label,
        experiment=run.experiment,
        state=run.state,
        step=run.step,
        aps=run.aps,
        flops=total_flops(run.cost),
        peak_bytes=peak_bytes(run.cost),
        step_seconds=run.step_seconds,
        joules_per_step=run.cost.joules_per_step if run.cost else None,
        parameters=run.backbone.model if run.backbone else None,
        drift=run.final_drift,
        evaluations=run.curve.evaluations,
        missing=run.missing,
    )


def summarise_pair(pair: Pair) -> PairSummary:
    """Summarize a pair."""
    run, control = pair.run, pair.control
    warnings = []
    if not pair.has_equal_training:
        warnings.append('one was evaluated after less training')
    if run.cost and control.cost:
        warnings += find_differences(run.cost, control.cost)
    return PairSummary(
        run=run.label,
        control=control.label,
        gains={
            ap: value - control.aps[ap]
            for ap, value in run.aps.items()
            if ap in control.aps
        },
        costs=compare(run.cost, control.cost, pair_seconds(pair)),
        warnings=warnings,
    )


def pair_seconds(pair: Pair) -> tuple[float | None, float | None]:
    """Return the logged times of a step, for runs without measured times."""
    return pair.run.logged_step_seconds, pair.control.logged_step_seconds
