"""Read the logs and records of a work dir."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from ...errors import is_number
from ...memory_limit import read_record
from ...run_files import BACKBONE, RunRecord

#: Keys of a log that must be numbers.
COUNTED = ('time', 'step')


def read_run(work_dir: Path) -> RunRecord:
    """Read the records of the guard hook, the logger and the evaluator.

    Args:
        work_dir: The run's work dir; resumed runs have several time-stamped
            folders in it, which are read in order.

    Raises:
        FileNotFoundError: If nothing was logged there.
        ValueError: If a log has invalid content.
    """
    work_dir = Path(work_dir)
    logs = find_logs(work_dir)
    # results of `mim test` are next to them, in TIME/TIME.json
    logs += work_dir.glob('*/[0-9]*_[0-9]*.json')
    logs.sort(key=lambda log: log.relative_to(work_dir).parts[0])
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
    """Find the logs of a run, one per start, in order.

    Raises:
        FileNotFoundError: If there are none.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(
            'A work dir must hold */vis_data/scalars.json, got '
            f'{str(work_dir)!r} without one. Train first.'
        )
    return logs


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a log with one record per line.

    Args:
        path: Path of the log. Its last line is ignored if it is incomplete,
            since the run may still be writing it.

    Raises:
        ValueError: If any other line is not a JSON object, or if its steps
            or seconds are not numbers.
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
                f'{path} must hold one JSON object per line, got '
                f'{line[:40]!r} in line {number}. {remedy}'
            ) from None
        records.append(record)
    return records


def is_evaluation(line: dict[str, Any]) -> bool:
    """Return whether a line of a log is an evaluation, with an AP."""
    return any(key.endswith(('_AP', '_mAP', '/mAP')) for key in line)
