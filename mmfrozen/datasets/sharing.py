"""Sharing of a dataset's annotations among the processes of a machine."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mmengine.dist import all_gather_object, barrier, get_rank


class SharedBytes(np.ndarray):
    """A read-only (N,) uint8 array that maps an anonymous file.

    The file is in memory, but not in ``/dev/shm``, which has only 64 MB in a
    container, and it disappears with the last process that uses it, even a
    killed one. Pickling for a spawned process passes the file, not its
    content; a slice or a copy pickles like any other array.
    """

    file: BinaryIO | None = None


def store(pieces: Iterable[bytes]) -> SharedBytes:
    """Write pieces to an anonymous file in sequence, without a second copy."""
    if hasattr(os, 'memfd_create'):
        file = os.fdopen(os.memfd_create('mmfrozen'), 'w+b')
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.writelines(pieces)
    file.flush()
    return _map(file)


def _map(file: BinaryIO) -> SharedBytes:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(mapped, np.uint8).view(SharedBytes)
    array.file = file
    return array


def _open(path: str) -> SharedBytes:
    return _map(open(path, 'rb'))


def _reduce(array: SharedBytes) -> Any:
    if array.file:
        path = f'/proc/{os.getpid()}/fd/{array.file.fileno()}'
        if os.path.exists(path):
            return _open, (path,)
    return array.__reduce__()


ForkingPickler.register(SharedBytes, _reduce)


def load_once_per_machine(key: str, load: Callable[[], Any]) -> Any:
    """Load in one process of each machine and share the result with the
    others.

    Every process must call it. Processes with a different key, or that cannot
    access the result (containers, permissions, not picklable), load for
    themselves.

    Args:
        key: Identifies what is loaded.
        load: Returns a value other than None; :class:`SharedBytes` in it are
            not copied.

    Raises:
        Exception: The error of `load` in any process, raised in all of them.
    """
    rank = get_rank()
    key = hashlib.sha256(key.encode()).hexdigest()
    keys = all_gather_object((_machine(), key))
    first = keys.index(keys[rank])
    outcome = content = None
    if first == rank:
        try:
            result = load()
        except Exception as error:
            outcome = error
        else:
            with contextlib.suppress(Exception):  # not picklable
                content = store([ForkingPickler.dumps(result)])
                outcome = ForkingPickler.dumps(content).tobytes()
    outcomes = all_gather_object(_sendable(outcome))
    outcomes[rank] = outcome  # keeps the traceback
    for error in outcomes:
        if isinstance(error, Exception):
            raise error
    if first != rank:
        try:
            result = pickle.loads(pickle.loads(outcomes[first]))
        except Exception:  # no access, no result, or it cannot be unpickled
            result = None
    barrier()  # keep `content` and its files until all have read them
    return load() if result is None else result


def _machine() -> tuple[str, str]:
    """Return an id that is equal for processes that see each other's files in
    ``/proc``."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text()
        return boot, os.readlink('/proc/self/ns/pid')
    except OSError:
        return str(get_rank()), ''


def _sendable(outcome: Any) -> Any:
    """Return an error that survives pickling; some cannot be pickled or
    unpickled."""
    try:
        return pickle.loads(pickle.dumps(outcome))
    except Exception:
        return RuntimeError(f'{type(outcome).__name__}: {outcome}')
