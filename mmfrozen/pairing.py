"""Find an experiment's control configs and second phase by their folders.

``frozen/X.py`` is an experiment, ``finetuned/X.py`` and ``scratch/X.py`` are
its controls, ``thawed/X.py`` continues from the frozen run's checkpoint.
Work dirs follow the same rule: ``work_dirs/frozen/X``.
"""

from __future__ import annotations

from pathlib import Path

#: States whose backbone is frozen, fully or in part.
EXPERIMENTS = ('frozen', 'partial')
CONTROLS = ('finetuned', 'scratch')
STATES = (*EXPERIMENTS, *CONTROLS, 'thawed')


def config_in_state(path: Path, state: str) -> Path:
    """Return the path of an experiment's config in another state."""
    return path.parent.parent / state / path.name


def state_of_folder(path: Path) -> str | None:
    """Return the state of a config or work dir by its folder, or None."""
    name = path.parent.name
    return name if name in STATES else None
