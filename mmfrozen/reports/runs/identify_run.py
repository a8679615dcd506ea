"""Identify the experiment and state of a work dir, and label it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...pairing import STATES, state_of_folder
from ...run_files import BACKBONE

UNKNOWN = 'unknown'
TAIL = re.compile(rf'_({"|".join(STATES)})$')


def find_experiment(path: Path) -> str:
    """Return the experiment of a run: the name of its config without state.

    MMDetection copies the config to the work dir; if there is none, or
    several, the folder's name is used.
    """
    configs = [p.stem for p in Path(path).glob('*.py')]
    name = configs[0] if len(configs) == 1 else Path(path).resolve().name
    return TAIL.sub('', name)


def find_state(path: Path) -> str:
    """Return the state of a run's backbone, or ``'unknown'``.

    It is taken from ``backbone.json``, else from the parent folder of the
    work dir, else from the end of the names of work dir and config. Earlier
    releases recorded second phases (``thawed``) as ``finetuned``; these are
    recognised by the names, since they are not controls.
    """
    path = Path(path).resolve()
    state = _state_from_names(path)
    record = BACKBONE.read(path)
    if record is None or record.state not in STATES:
        return state
    is_second_phase = record.state == 'finetuned' and state == 'thawed'
    return state if is_second_phase else record.state


def _state_from_names(path: Path) -> str:
    folder = state_of_folder(path)
    if folder:
        return folder
    for name in (path.name, *(p.stem for p in path.glob('*.py'))):
        match = TAIL.search(name)
        if match:
            return match[1]
        if name in STATES:
            return name
    return UNKNOWN


def make_labels(
    paths: Sequence[Path], names: Sequence[tuple[str, str]]
) -> list[str]:
    """Make short unique labels of runs.

    A label is the state, with the experiment if there are several, and with
    the end of the path where labels would be equal.
    """
    experiments = {experiment for experiment, _ in names}
    short = [
        state if len(experiments) == 1 else f'{experiment}, {state}'
        for experiment, state in names
    ]
    if len(experiments) == 1 and UNKNOWN in short:
        short = [f'{e}, {s}' if s == UNKNOWN else s for e, s in names]
    short = [label.removesuffix(f', {UNKNOWN}') for label in short]
    parts = [Path(path).resolve().parts for path in paths]
    return [
        f'{label} ({_tail(parts, index)})' if short.count(label) > 1 else label
        for index, label in enumerate(short)
    ]


def _tail(paths: Sequence[tuple[str, ...]], index: int) -> str:
    own = paths[index]
    for length in range(1, len(own) + 1):
        tail = own[-length:]
        if sum(parts[-length:] == tail for parts in paths) == 1:
            break
    return '/'.join(tail)
