"""This module times training steps of two models in turn, in one process.

Step times in the logs of two runs also differ by the load of the machine at
the time. Here both steps of a pair use the same batch and run within seconds
of each other, so that other load slows both equally.
"""

from __future__ import annotations

import copy
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint, set_random_seed
from mmengine.utils import import_modules_from_strings

from .engine import FrozenEngine
from .errors import require
from .freezing import find_faults
from .hooks.runner_access import optimizer_groups
from .run_files import Spread, StepsInTurn

WARM_UP = 2  # pairs that are not timed


def measure_in_turn(
    configs: Sequence[Config],
    checkpoints: Sequence[Path | None],
    *,
    num_pairs: int,
    engine: bool,
) -> StepsInTurn:
    """Time steps of two models in turn, in a process of their own.

    Args:
        configs: Configs of the run and of its control.
        checkpoints: Checkpoints of both, None for random weights. A trained
            detector has more positive regions, so that its steps take longer.
            Weights are not changed.
        num_pairs: Number of pairs of steps that are timed.
        engine: Whether a frozen backbone runs as an inference engine.

    Returns:
        Medians and quartiles of both step times and of their ratio.

    Raises:
        Exception: Any error of a model, the loader or the device.
    """
    # when the process ends, its memory is free again, also on the GPU; a
    # fork would wait forever for threads that torch had started here
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(
            _measure, configs, checkpoints, num_pairs, engine
        ).result()


def _measure(
    configs: Sequence[Config],
    checkpoints: Sequence[Path | None],
    num_pairs: int,
    engine: bool,
) -> StepsInTurn:
    for cfg in configs:
        if cfg.get('custom_imports'):
            import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(configs[0].get('default_scope', 'mmdet'))
    steppers = [
        Stepper(cfg, path, engine)
        for cfg, path in zip(configs, checkpoints, strict=True)
    ]
    batches = load_batches(configs[0])
    times: list[list[float]] = [[], []]
    for pair in range(WARM_UP + num_pairs):
        batch = next(batches)
        for side in (0, 1) if pair % 2 else (1, 0):
            seconds = steppers[side](batch)
            if pair >= WARM_UP:
                times[side].append(seconds)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return StepsInTurn(
        run=spread_of(times[0]),
        control=spread_of(times[1]),
        ratio=spread_of(ratios),
        engine=steppers[0].engine,
        images=configs[0].train_dataloader.batch_size,
        threads=torch.get_num_threads(),
        device=steppers[0].device,
        torch=torch.__version__,
    )


class Stepper:
    """Timer of a model's training steps, at a learning rate of 0.

    Args:
        cfg: Config of the run.
        checkpoint: Checkpoint to load; None to keep the weights with which
            the layers are constructed.
        engine: Whether a frozen backbone runs as an inference engine.

    Attributes:
        model: The model in training mode, on its device.
        optimizer: The optimizer wrapper.
        engine: Last log line of FrozenEngine; None if it was not used.
        device: Device such as ``'cuda'``.
    """

    def __init__(
        self, cfg: Config, checkpoint: Path | None, engine: bool
    ) -> None:
        set_random_seed(0)
        self.device = get_device()
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        if checkpoint is not None:
            load_checkpoint(model, str(checkpoint), 'cpu')
        self.model = model.to(self.device).train()
        self.optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
        groups = optimizer_groups(self.optimizer)
        for group in groups:
            group['lr'] = 0.0
        self.engine: str | None = None
        backbone = getattr(model, 'backbone', None)
        if engine and backbone and not find_faults(backbone, groups):
            FrozenEngine(backbone, lambda: True, log=self._note)

    def _note(self, line: str) -> None:
        self.engine = line

    def __call__(self, batch: Any) -> float:
        """Run a training step on a batch; return its seconds."""
        batch = copy.deepcopy(batch)  # the data preprocessor changes it
        self.wait()
        start = time.perf_counter()
        self.model.train_step(batch, self.optimizer)
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.device.startswith('cuda'):
            torch.cuda.synchronize()


def load_batches(cfg: Config, dataset: Any = None) -> Iterator[Any]:
    """Yield training batches without end.

    They are loaded in this process, so that no worker disturbs the steps.

    Args:
        cfg: Config of the run.
        dataset: The train data set, if it has been built.
    """
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    if dataset is not None:
        loader.dataset = dataset
    built = Runner.build_dataloader(loader, seed=0)
    while True:
        is_empty = True
        for batch in built:
            is_empty = False
            yield batch
        require(
            not is_empty,
            'train_dataloader',
            'a loader of at least one batch',
            f'none of {len(built.dataset)} images',
            'Reduce batch_size, or correct the data set.',
        )


def spread_of(values: list[float]) -> Spread:
    """Return median and quartiles of at least two values."""
    lower, median, upper = quantiles(values, method='inclusive')
    return Spread(lower, median, upper, len(values))
