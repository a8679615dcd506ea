"""Whether the AP of several runs means the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...run_files import STRATA


def check_evaluations(work_dirs: Sequence[Path]) -> None:
    """Refuse to set AP side by side that was measured otherwise.

    Runs without ``strata.json``, and what older files do not say, pass.

    Args:
        work_dirs: Of the runs.

    Raises:
        ValueError: If settings or annotations of two runs differ.
    """
    first: dict[tuple[str, ...], tuple[Path, Any]] = {}
    for work_dir in work_dirs:
        for file in sorted(Path(work_dir).glob(f'**/{STRATA.name}')):
            evaluation = STRATA.read(file)
            assert evaluation is not None  # it was found
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
