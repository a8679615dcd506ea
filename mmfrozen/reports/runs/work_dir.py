"""Read the logs and records of a work dir; the table of a pair."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from ...errors import is_number
from ...memory_limit import read_record
from ...run_files import BACKBONE, RunRecord

#: Numbers of a log that are computed with.
COUNTED = ('time', 'step')
#: Rows of the table: a head, and the metric as the evaluator names it.
LVIS_ROWS = {
    f'{kind} {ap}': f'lvis/{metric}_{ap}'
    for kind, metric in (('box', 'bbox'), ('mask', 'segm'))
    for ap in ('AP', 'APr', 'APc', 'APf')
}


def read_run(work_dir: Path) -> RunRecord:
    """Read what the guard, the logger and the evaluator left behind.

    Args:
        work_dir: The run's work dir; resumed runs have several time-stamped
            folders in it, which are read in their order.

    Raises:
        FileNotFoundError: If nothing was logged there.
        ValueError: If a log holds anything else than it should.
    """
    work_dir = Path(work_dir)
    logs = find_logs(work_dir)
    # what `mim test` found stands beside them, in TIME/TIME.json
    logs += sorted(work_dir.glob('*/[0-9]*_[0-9]*.json'))
    lines = [line for log in logs for line in read_log(log)]
    steps = [x['time'] for x in lines if 'loss' in x and 'time' in x]
    evaluations = [line for line in lines if is_evaluation(line)]
    last = evaluations[-1] if evaluations else {}
    reached = max((x['step'] for x in lines if 'step' in x), default=None)
    return RunRecord(
        backbone=BACKBONE.read(work_dir),
        step=last.get('step', reached) if last else None,
        metrics={k: v for k, v in last.items() if '/' in k},
        step_seconds=median(steps) if steps else None,
    )


def find_logs(work_dir: Path) -> list[Path]:
    """Find the logs of a run's starts, in their order.

    Raises:
        FileNotFoundError: If there is none.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(
            'A work dir must hold */vis_data/scalars.json, got '
            f'{str(work_dir)!r} without one. Train first.'
        )
    return logs


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a log, one record a line.

    Args:
        path: Of the log; its last line may be half written by a run that is
            still going, and is left out then.

    Raises:
        ValueError: If any other line is no JSON object, or if its steps or
            seconds are no numbers.
    """
    remedy = 'Remove the line, or the folder.'
    text = read_record(path, 'Remove the folder.')
    lines = text.decode('utf-8', errors='replace').splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not all(
                is_number(record.get(key, 0)) for key in COUNTED
            ):
                raise ValueError
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            raise ValueError(
                f'{path} must hold one JSON object a line, got {line[:40]!r} '
                f'in line {number}. {remedy}'
            ) from None
        records.append(record)
    return records


def is_evaluation(line: dict[str, Any]) -> bool:
    """Tell an evaluation, which holds an AP, from other lines of a log."""
    return any(key.endswith(('_AP', '_mAP', '/mAP')) for key in line)


def pair_table(runs: dict[str, RunRecord], title: str) -> Table:
    """Set runs side by side, the control last, with the differences to it.

    Args:
        runs: Runs by name; the last is the control of the first.
        title: Head of the table.

    Returns:
        AP in per cent, absent values as ``-``.
    """
    table = Table(title=title)
    table.add_column('')
    for name in runs:
        table.add_column(name, justify='right')
    first, *_, last = runs.values()
    table.add_column('difference', justify='right')
    for head, key in _ap_rows(runs).items():
        values = [_percent(run.metrics.get(key)) for run in runs.values()]
        a, b = (_percent(run.metrics.get(key)) for run in (first, last))
        gap = f'{a - b:+.1f}' if a is not None and b is not None else '-'
        table.add_row(head, *(_show(v, '.1f') for v in values), gap)
    table.add_section()
    table.add_row(
        'step, s',
        *(_show(r.step_seconds, '.2f') for r in runs.values()),
        _ratio(first.step_seconds, last.step_seconds),
    )
    for head, field in (
        ('trainable, M', 'trainable'),
        ('parameters, M', 'total'),
    ):
        counts = [
            getattr(r.backbone.model, field) / 1e6 if r.backbone else None
            for r in runs.values()
        ]
        table.add_row(
            head,
            *(_show(c, '.2f') for c in counts),
            _ratio(counts[0], counts[-1]),
        )
    return table


def _ap_rows(runs: dict[str, RunRecord]) -> dict[str, str]:
    """Names of metrics by the head of their row."""
    names = {name: None for run in runs.values() for name in run.metrics}
    if any(name in names for name in LVIS_ROWS.values()):
        return LVIS_ROWS
    # AP of COCO, or of several data sets
    return {name: name for name in names if 'AP' in name.rpartition('/')[2]}


def _percent(value: float | None) -> float | None:
    """AP in per cent; NaN, or MMDetection's -1, where a bin has no class."""
    return 100 * value if value is not None and value >= 0 else None


def _show(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)


def _ratio(a: float | None, b: float | None) -> str:
    return f'x {a / b:.2f}' if a is not None and b else '-'
