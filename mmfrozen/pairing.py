"""The folder is the state: an experiment, its controls, its second phase.

``frozen/X.py`` is an experiment, ``finetuned/X.py`` and ``scratch/X.py`` are
its controls, ``thawed/X.py`` trains on from the frozen run's checkpoint.
Work dirs follow the same rule: ``work_dirs/frozen/X``.
"""

from __future__ import annotations

from pathlib import Path

#: Those whose backbone, or part of it, is frozen.
EXPERIMENTS = ('frozen', 'partial')
CONTROLS = ('finetuned', 'scratch')
STATES = (*EXPERIMENTS, *CONTROLS, 'thawed')


def in_state(path: Path, state: str) -> Path:
    """Name the config of an experiment in another state."""
    return path.parent.parent / state / path.name


def state_of_folder(path: Path) -> str | None:
    """Tell the state of a config or work dir by the folder it is in."""
    name = path.parent.name
    return name if name in STATES else None
