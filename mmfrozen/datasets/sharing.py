"""Share the annotations of a data set among the processes of a machine."""

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
    """(N,) uint8, read-only, of a file that has no name.

    It is in memory, not in ``/dev/shm``, whose 64 MB in a container would
    not do, and gone with the last process that has it, killed or not.
    A spawned process is given the file, not its content; a slice or a copy
    is an array like any other.
    """

    file: BinaryIO | None = None


def store(pieces: Iterable[bytes]) -> SharedBytes:
    """Write pieces one after another, without holding them twice."""
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


def once_a_machine(key: str, load: Callable[[], Any]) -> Any:
    """Load in one process of each machine and give the others the result.

    Every process has to call it. Those that call it with another key, or
    cannot have the result (containers, rules, no pickle), load by themselves.

    Args:
        key: Says what is loaded.
        load: Returns something, not None; :class:`SharedBytes` in it are
            not copied.

    Raises:
        Exception: What any process raised in `load`, in all of them.
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
            with contextlib.suppress(Exception):  # it cannot be pickled
                content = store([ForkingPickler.dumps(result)])
                outcome = ForkingPickler.dumps(content).tobytes()
    outcomes = all_gather_object(_sendable(outcome))
    outcomes[rank] = outcome  # with the traceback
    for error in outcomes:
        if isinstance(error, Exception):
            raise error
    if first != rank:
        try:
            result = pickle.loads(pickle.loads(outcomes[first]))
        except (OSError, TypeError):  # not allowed to look there, or nothing
            result = None
    barrier()  # `content` and what it names are there until all have them
    return load() if result is None else result


def _machine() -> tuple[str, str]:
    """Equal for processes that find one another's files in ``/proc``."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text()
        return boot, os.readlink('/proc/self/ns/pid')
    except OSError:
        return str(get_rank()), ''


def _sendable(outcome: Any) -> Any:
    """An error that arrives; some cannot be pickled, or not be read back."""
    try:
        return pickle.loads(pickle.dumps(outcome))
    except Exception:
        return RuntimeError(f'{type(outcome).__name__}: {outcome}')
