"""Check that several runs were evaluated with the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...run_files import STRATA


def check_evaluations(work_dirs: Sequence[Path]) -> None:
    """Refuse to compare APs that were measured with different settings.

    Runs without ``strata.json``, and settings missing in older files, are
    not checked.

    Args:
        work_dirs: Work dirs of the runs.

    Raises:
        ValueError: If settings or annotations of two runs differ.
    """
    first: dict[tuple[str, ...], tuple[Path, Any]] = {}
    for work_dir in work_dirs:
        for file in sorted(Path(work_dir).glob(f'**/{STRATA.name}')):
            evaluation = STRATA.read(file)
            assert evaluation is not None  # glob has found it
            folder = str(file.parent.relative_to(work_dir))
            for record in evaluation.records:
                measured = {
                    **(evaluation.settings or {}),
                    'max_dets': record.max_dets,
                    'annotations (digest)': record.annotations,
                }
                key = (folder, record.protocol, record.iou_type)
                other, settings = first.setdefault(key, (file, measured))
                _compare(file, measured, other, settings)


def _compare(
    file: Path,
    measured: dict[str, Any],
    other: Path,
    settings: dict[str, Any],
) -> None:
    for name in sorted(measured.keys() & settings.keys()):
        values = (settings[name], measured[name])
        if None not in values and values[0] != values[1]:
            raise ValueError(
                f'Runs must be evaluated alike to be compared, got {name} '
                f'{values[0]} in {str(other)!r} and {values[1]} in '
                f'{str(file)!r}. Evaluate one of them again.'
            )
