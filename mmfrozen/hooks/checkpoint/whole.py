"""Which checkpoint of a work dir is whole, and the last."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path


def why_broken(path: Path) -> str | None:
    """Compare every tensor of a checkpoint with its check sum.

    ``torch.load`` does not: it reads flipped bits as other weights.

    Returns:
        What is wrong with the file; None if it is whole.
    """
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            damaged = file.testzip()
    except Exception as error:  # whatever damaged bytes lead to
        text = str(getattr(error, 'strerror', None) or error)
        return text.lower() or type(error).__name__
    if damaged:
        return f'{damaged} is damaged'
    if not any(name.endswith('/data.pkl') for name in names):
        return 'no checkpoint of torch'
    return None


def find_whole(
    work_dir: Path, folder: Path, position: Callable[[str], int | None]
) -> tuple[str | None, dict[str, str]]:
    """Find what a run is to resume from.

    Args:
        work_dir: Has ``last_checkpoint``.
        folder: Has the checkpoints.
        position: The training step of a checkpoint by its file name; None
            for other files.

    Returns:
        The checkpoint that ``last_checkpoint`` names, else the one of most
        training that is whole; None if there are none at all. And why those
        before it are not.

    Raises:
        ValueError: If there are some, and none is whole.
    """
    record = work_dir / 'last_checkpoint'
    named = record.read_text().strip() if record.is_file() else None
    if named and ('://' in named or Path(named).is_dir()):
        return named, {}  # remote, or DeepSpeed's
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
            f'resume must find a whole checkpoint in {work_dir}, got {tried}. '
            'Copy one there, or remove these to begin anew.'
        )
    return None, {}
