"""Write files atomically: complete or unchanged, never truncated."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

#: Suffix of a file that is being written.
PART = '.mmfrozen-part'
#: Error codes of file systems that cannot sync a folder.
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


class WriteError(OSError):
    """One-line error of a file that could not be written, with ``errno``."""


@contextlib.contextmanager
def atomic_path(path: str | Path, size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to, then rename it to the target.

    The temporary file is synced to disk before the rename. A symbolic link
    stays a link, and a target that is not a regular file (a pipe,
    ``/dev/stdout``) is written to directly.

    Args:
        path: Path of the target. Missing folders are created.
        size: Number of bytes to write, for the error; None if unknown.

    Yields:
        The path to write to, in the same folder.

    Raises:
        WriteError: If it cannot be written. The old content is kept.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with _wrap_os_errors(path, size):
            yield target
        return
    part = target.with_name(target.name + PART)
    try:
        with _wrap_os_errors(path, size):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield part
            with open(part, 'rb+') as file:
                os.fsync(file)
            if target.exists():
                shutil.copymode(target, part)
            os.replace(part, target)
            _sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


@contextlib.contextmanager
def log_write_errors(log_error: Callable[[str], object]) -> Iterator[None]:
    """Log a WriteError instead of raising it, so that the run continues."""
    try:
        yield
    except WriteError as error:
        log_error(f'{error} The run continues.')


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically; see :func:`atomic_path`."""
    with atomic_path(path, len(content)) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str, errors: str = 'strict') -> None:
    """Write a file in UTF-8 atomically; see :func:`atomic_path`."""
    write_bytes(path, text.encode('utf-8', errors))


def remove_parts(folder: Path) -> None:
    """Remove temporary files of killed processes, up to one folder deep."""
    for pattern in (f'*{PART}', f'*/*{PART}'):
        for part in folder.glob(pattern):
            with contextlib.suppress(OSError):
                part.unlink()


@contextlib.contextmanager
def _wrap_os_errors(path: str | Path, size: int | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        needed = '' if size is None else f', {size:,} bytes needed'
        with contextlib.suppress(OSError):
            folder = Path(os.path.realpath(path)).parent
            needed += f', {shutil.disk_usage(folder).free:,} free'
        wrapped = WriteError(
            f'{path} must be written, got {error.strerror or error}{needed}. '
            'Free disk space or choose another path; the existing file is '
            'kept.'
        )
        wrapped.errno = error.errno
        raise wrapped from error


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename survives a power failure."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
