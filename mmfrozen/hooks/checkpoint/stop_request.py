"""Handle stop requests by signal, at the same step in all processes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import distributed as dist
from torch.utils.data import DataLoader

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
#: Seconds within which repeated SIGTERMs count as one: Slurm and torchrun may
#: both send it to a process.
REPEAT_SECONDS = 3.0
#: Maximum time that processes wait for rank 0 to write its last checkpoint.
BARRIER_TIMEOUT = timedelta(minutes=10)


def shield_workers(loader: DataLoader) -> None:
    """Make future workers of a loader ignore the signals.

    Slurm sends the signals to every process.
    """
    former = loader.worker_init_fn
    if getattr(former, 'func', None) is not _init_worker:
        loader.worker_init_fn = functools.partial(_init_worker, former)


def _init_worker(former: Callable[[int], None] | None, number: int) -> None:
    if former is not None:
        former(number)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):  # missing on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit at once, without an error, on a SIGTERM from the main process only.

    torch's own handler does the same.
    """
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


class StopRequest:
    """A request by SIGTERM or SIGUSR1 to stop a training run.

    The handler only records the signal; the run acts on it between steps.

    Attributes:
        received: First signal that this process received; None if none.
        agreed: Signal that all processes have exchanged, set at the same step
            in all of them; None before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.agreed: int | None = None
        self._first: float | None = None
        self._group: Any = None
        self._taken: dict[int, Any] = {}
        self._exchange: tuple[Any, torch.Tensor] | None = None

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handle the signals within this context.

        Signals that other code handles or ignores are left alone. Outside of
        the main thread no signal can be handled.
        """
        self.received = self.agreed = None
        self._first = self._exchange = None
        taken = self._taken = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    taken[number] = signal.signal(number, self._receive)
        if get_world_size() > 1:  # gloo: a GPU group would synchronise
            self._group = dist.new_group(backend='gloo')
        try:
            yield
        finally:
            for number, former in taken.items():
                if former is not None:  # None if not set by Python
                    signal.signal(number, former)
            self._group = None

    def exchange(self, *, wait: bool = False) -> int | None:
        """Exchange received signals; all processes call this once per step.

        A value sent at one step is read at the next step, so that no process
        waits for it.

        Args:
            wait: Whether to wait for the value and read it at once.

        Returns:
            ``agreed``.
        """
        if self._group is None:
            self.agreed = self.received
            return self.agreed
        for _ in range(1 + wait):
            if self._exchange is not None and self.agreed is None:
                work, number = self._exchange
                work.wait()
                self.agreed = int(number) or None
            if self.agreed is None:
                number = torch.tensor(self.received or 0)
                work = dist.all_reduce(
                    number, dist.ReduceOp.MAX, group=self._group, async_op=True
                )
                self._exchange = work, number
        return self.agreed

    @property
    def is_alone(self) -> bool:
        """Return whether this process is the only one."""
        return self._group is None

    def barrier(self) -> None:
        """Wait for all processes, as the exit of one ends the others."""
        if self._group is not None:
            with contextlib.suppress(RuntimeError):  # some may be dead
                dist.monitored_barrier(self._group, BARRIER_TIMEOUT)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            # The signal may have ended data loader workers, for which torch's
            # SIGCHLD handler would raise in the middle of a step.
            self._taken[signal.SIGCHLD] = signal.signal(
                signal.SIGCHLD, signal.SIG_DFL
            )
        if number == signal.SIGTERM:
            now = time.monotonic()
            self._first = self._first or now
            if now - self._first > REPEAT_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
