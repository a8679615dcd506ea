"""Write the strata of an evaluation to the work dir and the visualizer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from mmengine.logging import MMLogger

from ..atomic_write import atomic_path, log_write_errors
from ..run_files import STRATA, Evaluation, StrataRecord
from .matches import Matches
from .run_folder import show_scalars, training_iter, work_dir
from .strata import or_none


def strata_path(
    strata_file: str | bool, dataset_prefix: str | None = None
) -> Path | None:
    """Return the path to which the strata are written.

    Args:
        strata_file: A file or an existing folder; True for the work dir of the
            current run; False for no file.
        dataset_prefix: Folder in the work dir, if a run evaluates several
            data sets; None for the work dir itself.

    Returns:
        The path; None if no file is wanted, or outside of a run.
    """
    if isinstance(strata_file, str):
        file = Path(strata_file)
        return file / STRATA.name if file.is_dir() else file
    folder = work_dir() if strata_file else None
    return folder and folder / (dataset_prefix or '') / STRATA.name


def write_matches(matches: Matches, strata: Path) -> None:
    """Write ``matches.IOU_TYPE.npz`` into the folder of the strata."""
    path = strata.parent / f'matches.{matches.iou_type}.npz'
    with _log_write_errors(), atomic_path(path) as part:
        matches.save(part)


def write_strata(
    strata: Path,
    ann_file: str,
    metrics: dict[str, float],
    records: Sequence[StrataRecord],
    settings: dict[str, int | None],
) -> None:
    """Write an :class:`~mmfrozen.run_files.Evaluation`."""
    evaluation = Evaluation(
        iter=training_iter(),
        ann_file=ann_file,
        metrics={k: or_none(v) for k, v in metrics.items()},
        records=list(records),
        settings=settings,
    )
    with _log_write_errors():
        STRATA.write(strata, evaluation)


def _log_write_errors() -> AbstractContextManager[None]:
    return log_write_errors(MMLogger.get_current_instance().error)


def show_strata(prefix: str, records: Sequence[StrataRecord]) -> None:
    """Send AP by bin to the visualizer, as ``lvis_strata/bbox/BY/NAME``."""
    show_scalars(
        {
            f'{prefix}_strata/{record.iou_type}/{x.by}/{x.name}': x.ap
            for record in records
            for x in record.strata
            if x.by != 'category' and x.ap is not None
        }
    )
