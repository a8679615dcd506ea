"""Find the last complete checkpoint, from which a run resumes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from ...atomic_write import remove_parts


def why_broken(path: Path) -> str | None:
    """Compare every tensor of a checkpoint with its check sum.

    ``torch.load`` does not do this: it reads flipped bits as other weights.

    Returns:
        What is wrong with the file; None if it is complete.
    """
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            damaged = file.testzip()
    except Exception as error:  # damaged bytes may raise anything
        text = str(getattr(error, 'strerror', None) or error)
        return text.lower() or type(error).__name__
    if damaged:
        return f'{damaged} is damaged'
    if not any(name.endswith('/data.pkl') for name in names):
        return 'not a checkpoint of torch'
    return None


def find_whole(
    work_dir: Path, folder: Path, position: Callable[[str], int | None]
) -> tuple[str | None, dict[str, str]]:
    """Find the checkpoint from which a run is to resume.

    Args:
        work_dir: Work dir, which contains ``last_checkpoint``.
        folder: Folder of the checkpoints.
        position: Function that returns the training step of a checkpoint by
            its file name; None for other files.

    Returns:
        The path of the checkpoint: the one that ``last_checkpoint`` names,
        else the complete one of the latest training step; None without
        checkpoints. And the faults of the checkpoints tried before it, by
        path.

    Raises:
        ValueError: If there are checkpoints, but none is complete.
    """
    record = work_dir / 'last_checkpoint'
    named = record.read_text().strip() if record.is_file() else None
    if named and ('://' in named or Path(named).is_dir()):
        return named, {}  # remote, or a folder of DeepSpeed
    broken: dict[str, str] = {}
    if named == '':
        broken[str(record)] = 'an empty file'
    steps = {p: position(p.name) for p in folder.glob('*')}
    found = sorted(
        (p for p, step in steps.items() if step is not None),
        key=lambda p: steps[p] or 0,
        reverse=True,
    )
    for path in [Path(named), *found] if named else found:
        if str(path) in broken:
            continue
        why = why_broken(path)
        if why is None:
            return str(path), broken
        broken[str(path)] = why
    if broken:
        tried = ', '.join(f'{path} ({why})' for path, why in broken.items())
        raise ValueError(
            f'resume must find a complete checkpoint in {work_dir}, got '
            f'{tried}. Copy one there, or remove these to start a new run.'
        )
    return None, {}


def choose(runner: Runner, folder: Path, steps: dict[str, int]) -> None:
    """Choose, in the main process, the checkpoint that all processes load.

    This also checks ``load_from``, and removes the unfinished files of killed
    runs.

    Args:
        runner: The runner, before ``load_or_resume``.
        folder: Folder of the checkpoints.
        steps: Number of training steps for each unit of the number in a file
            name, by template of the name.

    Raises:
        FileNotFoundError: If ``load_from`` does not exist.
        ValueError: If ``load_from`` or all checkpoints are damaged.
    """
    outcome: list[Any] = [None]
    if is_main_process():
        try:
            outcome = [_choose(runner, folder, steps)]
        except (OSError, ValueError) as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    runner._load_from = outcome[0]


def _choose(runner: Runner, folder: Path, steps: dict[str, int]) -> str | None:
    work_dir, given = Path(runner.work_dir), runner._load_from
    for place in {work_dir, folder}:
        remove_parts(place)
    if given is not None:
        path = Path(given).expanduser()
        if '://' not in given and not path.is_file():
            raise FileNotFoundError(
                f'load_from must be an existing checkpoint, got {given!r}. '
                'Correct the path, or set None.'
            )
        why = why_broken(path) if _is_zip(path) else None
        if why:
            raise ValueError(
                f'load_from must be a complete checkpoint, got {given!r} '
                f'({why}). Copy it again, or give another one.'
            )
        return given
    if not runner._resume:
        return None
    patterns = {
        re.escape(name).replace(r'\{\}', r'(\d+)'): per
        for name, per in steps.items()
    }

    def position(name: str) -> int | None:
        for pattern, per in patterns.items():
            match = re.fullmatch(pattern, name)
            if match:
                return int(match[1]) * per
        return None

    path, broken = find_whole(work_dir, folder, position)
    for other, why in broken.items():
        runner.logger.warning(
            f'{other} is not a complete checkpoint ({why}): resuming from '
            f'{path} instead.'
        )
    return path


def _is_zip(path: Path) -> bool:
    """Return whether a file is a zip; older checkpoints have no check sums."""
    if not path.is_file():
        return False  # a URL or a missing file, reported by the loader
    with open(path, 'rb') as file:
        return file.read(2) == b'PK'
