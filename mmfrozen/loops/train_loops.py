"""MMEngine's training loops with exact resumption."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..registry import LOOPS
from ..seeds import seed_all
from .batches import NumberedBatchSampler, build_loader

#: Keys that these loops add to the ``message_hub`` of a checkpoint: the last
#: started epoch, the iteration at its start, and the iteration of the last
#: evaluation.
EPOCH, BEGIN, EVALUATED = (
    f'resumable_{name}' for name in ('epoch', 'begin', 'evaluated')
)


class _Resumable:
    """Base class of both loops.

    The random numbers of a sample are seeded by the run's seed, the epoch and
    the number of its draw; those of a step by the run's seed, the rank and the
    iteration.
    """

    runner: Runner
    dataloader: DataLoader
    _iter: int

    def __init__(self, runner: Runner, dataloader: Any, **options: Any):
        loader = build_loader(
            runner, dataloader, _seed_of(runner), type(self).__name__
        )
        super().__init__(runner, _EmptyLoader(loader), **options)
        self.dataloader = loader

    @property
    def batches(self) -> NumberedBatchSampler:
        """Return the batch sampler."""
        return self.dataloader.batch_sampler

    def run_iter(self, *args: Any) -> None:
        """Run a step and its hooks with its own random seed."""
        self._seed_step()
        super().run_iter(*args)  # type: ignore[misc]

    def _seed_step(self) -> None:
        seed_all((self.batches.seed, get_rank(), self._iter, 1), _torch_seed())

    def _prepare(self) -> None:
        """Apply the state of the checkpoint, which has been loaded."""
        self.batches.reseed(_seed_of(self.runner))
        _warn_of_lost_gradients(self.runner, len(self.dataloader))
        self.runner.register_hook(_RecordEvaluation())
        self.runner.register_hook(_SeedStep(self._seed_step))
        self._evaluate_if_due()

    def _evaluate_if_due(self) -> None:
        """Evaluate when MMEngine's loop would.

        Also evaluate after resuming from a checkpoint whose evaluation was
        interrupted.
        """
        self._decide_current_val_interval()
        hub = self.runner.message_hub
        if (
            self.runner.val_loop is not None
            and self._is_evaluation_due()
            and hub.runtime_info.get(EVALUATED) != self._iter
        ):
            hub.update_info('iter', self._iter - 1)  # as after the step
            self.runner.val_loop.run()


@LOOPS.register_module()
class ResumableEpochBasedTrainLoop(_Resumable, EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop``, resumed exactly.

    MMEngine resumes a checkpoint from within an epoch at the beginning of that
    epoch, with other random numbers. With this loop, a run that was killed and
    resumed ends with the weights of an uninterrupted run, as far as its
    operators are deterministic (``docs/reliability.md``).

    Args:
        runner: The runner.
        dataloader: Config of the data loader; its dataset must be map-style.
        options: Options of ``EpochBasedTrainLoop``.

    Example config::

        train_cfg = dict(
            type='mmfrozen.ResumableEpochBasedTrainLoop', max_epochs=12)
    """

    def run(self) -> nn.Module:
        """Train from the checkpoint on."""
        self.runner.call_hook('before_train')
        self._prepare()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._evaluate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train for an epoch, or for its remaining batches."""
        done = self._done_in_epoch()
        hub = self.runner.message_hub
        hub.update_info(EPOCH, self._epoch)
        hub.update_info(BEGIN, self._iter - done)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.batches.epoch = self._epoch
        self.batches.begin(done)
        for index, batch in enumerate(self.dataloader, done):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _done_in_epoch(self) -> int:
        info = self.runner.message_hub.runtime_info
        if EPOCH in info:
            ours = info[EPOCH] == self._epoch
            return self._iter - info[BEGIN] if ours else 0
        # resumed from MMEngine's loop, or not resumed
        length = len(self.dataloader)
        done = self._iter - self._epoch * length
        return done if 0 <= done <= length else 0

    def _is_evaluation_due(self) -> bool:
        return (
            self._epoch >= max(self.val_begin, 1)
            and self._done_in_epoch() == 0
            and (
                self._epoch % self.val_interval == 0
                or self._epoch == self._max_epochs
            )
        )


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(_Resumable, IterBasedTrainLoop):
    """MMEngine's ``IterBasedTrainLoop``, resumed exactly and without delay.

    MMEngine's loop loads every batch that it skips
    (https://github.com/open-mmlab/mmengine/issues/1520), and continues with
    other random numbers. In this loop workers start once, after the checkpoint
    has been loaded, and not again for every epoch.

    Args:
        runner: The runner.
        dataloader: Config of the data loader; its dataset must be map-style.
        options: Options of ``IterBasedTrainLoop``.

    Example config::

        train_cfg = dict(
            type='mmfrozen.ResumableIterBasedTrainLoop', max_iters=90000)
    """

    def run(self) -> nn.Module:
        """Train from the checkpoint on."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._prepare()
        self.batches.begin(self._iter, endless=True)
        self.dataloader_iterator = iter(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._evaluate_if_due()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _is_evaluation_due(self) -> bool:
        return self._iter >= max(self.val_begin, 1) and (
            self._iter % self.val_interval == 0
            or self._iter == self._max_iters
        )


class _SeedStep(Hook):
    """Hook of the loops that seeds a step again after all other hooks.

    Some hooks draw random numbers only at the first step after a start.
    """

    priority = 'LOWEST'

    def __init__(self, seed: Callable[[], None]) -> None:
        self._seed = seed

    def before_train_iter(self, *args: Any, **_: Any) -> None:
        self._seed()


class _RecordEvaluation(Hook):
    """Hook of the loops that records the last evaluation in checkpoints."""

    priority = 'HIGHEST'

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        runner.message_hub.update_info(EVALUATED, runner.iter)


class _EmptyLoader:
    """An empty data loader for the constructor of MMEngine's loop.

    The constructor iterates its loader, which would start the workers before a
    checkpoint is loaded.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.dataset, self._length = loader.dataset, len(loader)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _seed_of(runner: Runner) -> int:
    """Return the seed of the run, the same in all processes."""
    differs = runner._randomness_cfg.get('diff_rank_seed', False)
    return runner.seed - get_rank() * bool(differs)


def _torch_seed() -> Callable[[int], Any]:
    """Return torch's seeding function; in CPU runs a faster one for CPUs."""
    if get_device() == 'cpu':
        return torch.default_generator.manual_seed
    return torch.manual_seed


def _warn_of_lost_gradients(runner: Runner, epoch_length: int) -> None:
    count = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or hook.interval < 1:
            continue
        steps = hook.interval * (epoch_length if hook.by_epoch else 1)
        if steps % count:
            print_log(
                'Checkpoints must be a multiple of optim_wrapper.'
                f'accumulative_counts={count} steps apart to be resumed '
                f'exactly, got {steps}: they have no gradients. Change '
                'default_hooks.checkpoint.interval.',
                logger='current',
                level=logging.WARNING,
            )
