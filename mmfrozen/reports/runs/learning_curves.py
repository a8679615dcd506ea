"""Read the learning curves of a run from its logs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .work_dir import find_logs, is_evaluation, read_log

#: Names of each AP after the evaluator's prefix, by column title.
AP_NAMES = {
    'box AP': ('bbox_AP', 'bbox_mAP'),
    'mask AP': ('segm_AP', 'segm_mAP'),
    'box APr': ('bbox_APr',),
    'box APc': ('bbox_APc',),
    'box APf': ('bbox_APf',),
    'mask APr': ('segm_APr',),
    'mask APc': ('segm_APc',),
    'mask APf': ('segm_APf',),
    'AP': ('mAP', 'AP'),
}


@dataclass(frozen=True)
class LoggedStep:
    """One line of the training log.

    Attributes:
        iter: Number of training steps done.
        loss: Sum of all losses, averaged by the logger; may be NaN.
        seconds: Training time since the run began, without evaluations.
    """

    iter: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class LoggedEvaluation:
    """One evaluation in the log.

    Attributes:
        iter: Number of training steps done.
        aps: AP as a fraction of 1, by column title.
    """

    iter: int
    aps: dict[str, float]


@dataclass(frozen=True)
class LearningCurve:
    """Losses and evaluations that a run logged.

    Attributes:
        steps: Logged steps in order of ``iter``. Of steps that a resumed run
            repeated, the last repetition is kept.
        evaluations: Evaluations, likewise.
        iters_per_epoch: Training steps per epoch, inferred from the log;
            None where that is not possible.
    """

    steps: list[LoggedStep]
    evaluations: list[LoggedEvaluation]
    iters_per_epoch: int | None

    def seconds_at(self, iteration: int) -> float | None:
        """Return the training time up to a step, by linear interpolation.

        After the last logged step it is extrapolated; None without steps.
        """
        before = LoggedStep(0, math.nan, 0.0)
        for step in self.steps:
            if step.iter >= iteration:
                share = (iteration - before.iter) / (step.iter - before.iter)
                return before.seconds + share * (step.seconds - before.seconds)
            before = step
        if not self.steps:
            return None
        pace = before.seconds / before.iter  # after the last step
        return before.seconds + pace * (iteration - before.iter)


def read_learning_curve(work_dir: Path) -> LearningCurve:
    """Read the logs of all starts of a run.

    Args:
        work_dir: Work dir of the run, which may still be running.

    Raises:
        FileNotFoundError: If nothing was logged there.
        ValueError: If a log cannot be read.
    """
    lines: list[dict[str, Any]] = []
    for log in find_logs(work_dir):
        start = [
            line
            for line in read_log(log)
            if is_step(line) or is_evaluation(line)
        ]
        steps = [line['step'] for line in start if is_step(line)]
        if steps:  # this start repeated the steps after its checkpoint
            lines = _before(lines, steps[0])
        lines += start
    steps_only = [line for line in lines if is_step(line)]
    length = iters_per_epoch(steps_only)
    return LearningCurve(
        _read_steps(steps_only), _read_evaluations(lines, length), length
    )


def is_step(line: dict[str, Any]) -> bool:
    """Return whether a line of a log describes training steps."""
    return 'loss' in line and 'step' in line


def read_aps(metrics: dict[str, Any]) -> dict[str, float]:
    """Select the APs of an evaluation.

    Args:
        metrics: Values by name, such as ``lvis/bbox_APr``.

    Returns:
        APs by column title, without undefined ones (evaluators write -1).
    """
    found: dict[str, float] = {}
    for head, names in AP_NAMES.items():
        for key, value in metrics.items():
            prefix, _, name = key.rpartition('/')
            if prefix and name in names and _is_defined(value):
                found.setdefault(head, float(value))
    return found


def _is_defined(value: object) -> bool:
    return isinstance(value, (int, float)) and value >= 0  # False for NaN


def iters_per_epoch(lines: list[dict[str, Any]]) -> int | None:
    """Infer the length of an epoch, which the log does not contain.

    Step ``i`` in epoch ``e`` means ``(e - 1) * length < i <= e * length``.

    Returns:
        The least number of steps that fits all lines; it is exact if the
        last step of an epoch was logged, and after a few epochs in any case.
        None within the first epoch, and if epochs are not logged.
    """
    places: list[tuple[int, int]] = [
        (x['step'], x['epoch']) for x in lines if x.get('epoch')
    ]
    if not any(epoch > 1 for _, epoch in places):
        return None
    return max(math.ceil(step / epoch) for step, epoch in places)


def _before(lines: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return the lines before the first that logs ``step`` or a later one."""
    for index, line in enumerate(lines):
        if is_step(line) and line['step'] >= step:
            return lines[:index]
    return lines


def _read_steps(lines: list[dict[str, Any]]) -> list[LoggedStep]:
    steps, seconds, done = [], 0.0, 0
    for line in lines:
        seconds += line.get('time', 0.0) * (line['step'] - done)
        done = line['step']
        steps.append(LoggedStep(done, float(line['loss']), seconds))
    return steps


def _read_evaluations(
    lines: list[dict[str, Any]], length: int | None
) -> list[LoggedEvaluation]:
    evaluations: dict[int, LoggedEvaluation] = {}
    done = 0
    for line in lines:
        if is_step(line):
            done = line['step']
            continue
        # evaluations are numbered by epoch, or by training step
        step = line.get('step', 0)
        iteration = step if step >= done else max(done, step * (length or 0))
        evaluations[iteration] = LoggedEvaluation(iteration, read_aps(line))
    return list(evaluations.values())
