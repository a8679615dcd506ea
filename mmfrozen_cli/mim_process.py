"""Run mim on a config, only once at a time per work dir; forward signals."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from mmfrozen.lock import InUseError, locked

from . import print_line

#: Received signals and the signals that are sent to the training instead: it
#: saves a checkpoint on SIGTERM, but not on SIGINT.
FORWARDED = {
    signal.SIGINT: signal.SIGTERM,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    signal.SIGUSR1: signal.SIGUSR1,
}


class Stopped(Exception):
    """Termination by a signal, whose number is the argument."""


def report_failure(train: Callable[[], None], *, refused: int) -> int:
    """Run trainings, and print one line if they do not succeed.

    Args:
        train: Function that calls :func:`run_mim`.
        refused: Exit status if ``train`` refuses its input.

    Returns:
        The exit status.
    """
    try:
        train()
    except subprocess.CalledProcessError:
        print(
            'error: Training must succeed, got the error above. Correct it '
            'and run the same command: it resumes from the last checkpoint.',
            file=sys.stderr,
        )
        return 1
    except (OSError, ValueError) as error:
        print_line('error', error)
        return refused
    except Stopped as stop:
        number = stop.args[0]
        print(
            f'stopped by {signal.Signals(number).name}: run the same command '
            'to continue.',
            file=sys.stderr,
        )
        return 128 + number
    return 0


def run_mim(
    command: str,
    config: Path,
    work_dir: Path,
    args: argparse.Namespace,
    *more: str,
) -> None:
    """Run a command of mim on one config.

    Raises:
        CalledProcessError: If it fails.
        Stopped: If this process received a signal, which was forwarded.
    """
    options = ('--cfg-options', *args.cfg_options) if args.cfg_options else ()
    with _lock(work_dir) as lock:
        _run(
            sys.executable,
            '-m',
            'mmfrozen_cli.mim_child',
            command,
            'mmdet',
            str(config),
            '--gpus',
            str(args.gpus),
            '--launcher',
            args.launcher,
            '--work-dir',
            str(work_dir),
            *more,
            *options,
            lock=lock,
        )


@contextlib.contextmanager
def _lock(work_dir: Path) -> Iterator[int]:
    """Lock a work dir; yield the file descriptor that holds the lock.

    The child process inherits the lock, since training continues if this
    process is killed.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    file = work_dir / '.lock'
    file.touch()
    try:
        with locked(file) as lock:
            yield lock
    except InUseError:
        raise ValueError(
            f'{work_dir} must not be in use, got a folder in which an earlier '
            'run still trains. Wait for that run, or stop it.'
        ) from None


def _run(*command: str, lock: int) -> None:
    """Run a command in its own session and forward signals to it."""
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, FORWARDED[number])

    process = None
    former = {
        number: signal.signal(number, forward)
        for number in FORWARDED
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        process = subprocess.Popen(
            command, start_new_session=True, pass_fds=[lock]
        )
        if received:
            forward(received[0], None)
        status = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if received:
        raise Stopped(received[0])
    if status:
        raise subprocess.CalledProcessError(status, command)
