"""Functions that stop every process of a run at the same step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from mmengine.dist import (
    all_gather_object,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch.utils.data import IterableDataset

#: Seconds for the main process to print, before the exit of the others makes
#: the launcher kill it.
EXIT_DELAY = 3.0


def stop_together(fault: str | None) -> None:
    """Stop all processes if one of them has found a fault.

    Every process must call it.

    Args:
        fault: A one-line message; None if this process found no fault.

    Raises:
        RuntimeError: In the main process, with the message of the first
            process that found a fault.
        SystemExit: In the others, so that the message is printed once.
    """
    found = [line for line in all_gather_object(fault) if line]
    if found:
        stop(found[0])


def stop(line: str) -> None:
    """Stop this process with a message; every process must call this.

    For the errors see :func:`stop_together`.
    """
    if is_main_process():
        raise RuntimeError(line)
    time.sleep(EXIT_DELAY)
    sys.exit(1)


def check_equal_shares(runner: Runner) -> None:
    """Stop the run if processes have different numbers of batches.

    Otherwise some processes would wait for the others until a time-out.
    """
    loader = runner.train_dataloader
    if isinstance(loader.dataset, IterableDataset):
        return  # its length is not known
    own = len(loader.dataset), len(loader)
    shares = all_gather_object(own)
    unlike = [rank for rank, share in enumerate(shares) if share != shares[0]]
    if not unlike:
        return
    images, batches = zip(shares[0], shares[unlike[0]], strict=True)
    remedy = (
        'Set round_up=True in train_dataloader.sampler.'
        if images[0] == images[1]
        else 'Make the annotation files and images equal on all machines.'
    )
    stop(
        'All processes must have the same number of batches of the same data, '
        f'got {batches[0]} of {images[0]} images on rank 0 and {batches[1]} '
        f'of {images[1]} on rank {unlike[0]}. {remedy}'
    )


def saves_now(runner: Runner, *, by_epoch: bool) -> bool:
    """Return whether a checkpoint is written after this step or epoch."""
    return any(
        hook.every_n_epochs(runner, hook.interval, hook.save_begin)
        or (hook.save_last and hook.is_last_train_epoch(runner))
        if by_epoch
        else hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        or (hook.save_last and hook.is_last_train_iter(runner))
        for hook in runner.hooks
        if isinstance(hook, CheckpointHook) and hook.by_epoch == by_epoch
    )


class AllRanksCheck(Hook):
    """Hook that runs a check in every process, before the main process saves.

    MMEngine calls ``before_save_checkpoint`` in the main process only. This
    hook is not in the registry: the hooks that need it add it to the runner.

    Args:
        check: Function that takes the runner and raises a RuntimeError for a
            fault.
    """

    priority = 89  # after all hooks but CheckpointHook, which is 90

    def __init__(self, check: Callable[[Runner], None]) -> None:
        self._check = check

    def after_train_iter(self, runner: Runner, **inputs: object) -> None:
        """Check before a checkpoint that is due at this step."""
        if saves_now(runner, by_epoch=False):
            self._check_before_saving(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check before a checkpoint that is due at this epoch."""
        if saves_now(runner, by_epoch=True):
            self._check_before_saving(runner)

    def after_val_epoch(self, runner: Runner, **inputs: object) -> None:
        """Check before the best checkpoint."""
        if any(getattr(hook, 'save_best', None) for hook in runner.hooks):
            self._check_before_saving(runner)

    def after_train(self, runner: Runner) -> None:
        """Check at the end of the run."""
        self._check_all(runner)

    def _check_before_saving(self, runner: Runner) -> None:
        if get_world_size() > 1:  # one rank checks in before_save_checkpoint
            self._check_all(runner)

    def _check_all(self, runner: Runner) -> None:
        fault = None
        try:
            self._check(runner)
        except RuntimeError as error:
            fault = str(error)
        stop_together(fault)
