"""Find the work dir of the current run from within a metric."""

from __future__ import annotations

import logging
from pathlib import Path

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer


def work_dir() -> Path | None:
    """Return the work dir of the current run; None outside of a run.

    The evaluator has no access to the runner, but to the current logger, which
    is the runner's and writes to ``WORK_DIR/TIME/TIME.log``
    (mmengine/runner/runner.py, `build_logger`).
    """
    if not MMLogger._instance_dict:
        return None
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename).parent.parent
    return None


def training_iter() -> int | None:
    """Return the number of training steps done; None outside of a run."""
    if not MessageHub._instance_dict:
        return None
    # RuntimeInfoHook writes the index of the current step, from 0
    begun = MessageHub.get_current_instance().get_info('iter', None)
    return None if begun is None else begun + 1


def show_scalars(scalars: dict[str, float]) -> None:
    """Send scalars to the visualizer of the current run, if there is one."""
    if Visualizer._instance_dict and scalars:
        Visualizer.get_current_instance().add_scalars(
            scalars, step=training_iter() or 0
        )
