"""Step times of two models that step in turn, in one process.

Two logs that were written an hour apart compare two hours of a machine as
much as two models. Here each pair of steps has the same batch and follows
within seconds, so that what slows the machine slows both.
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

from .engine import FrozenEngine
from .freezing import find_faults
from .hooks.runner_access import optimizer_groups
from .run_files import Spread, StepsInTurn

WARM_UP = 2  # pairs that are not counted


def measure_in_turn(
    configs: Sequence[Config],
    checkpoints: Sequence[Path],
    *,
    num_pairs: int,
    engine: bool,
) -> StepsInTurn:
    """Let two trained models step in turn, in a process that ends.

    Args:
        configs: Of the run and of its control.
        checkpoints: Theirs: a step of a trained detector has more positive
            regions than one of a new one. The weights do not move.
        num_pairs: Pairs of steps that are timed.
        engine: Whether a frozen backbone runs as an inference engine.

    Raises:
        Exception: Whatever a model, the loader or the device raises.
    """
    # whose memory, on the GPU too, is free again for the next run
    context = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(
            _measure, configs, checkpoints, num_pairs, engine
        ).result()


def _measure(
    configs: Sequence[Config],
    checkpoints: Sequence[Path],
    num_pairs: int,
    engine: bool,
) -> StepsInTurn:
    init_default_scope(configs[0].get('default_scope', 'mmdet'))
    steppers = [
        _Stepper(cfg, path, engine)
        for cfg, path in zip(configs, checkpoints, strict=True)
    ]
    batches = _batches(configs[0])
    times: list[list[float]] = [[], []]
    for pair in range(WARM_UP + num_pairs):
        batch = next(batches)
        for side in (0, 1) if pair % 2 else (1, 0):
            seconds = steppers[side](batch)
            if pair >= WARM_UP:
                times[side].append(seconds)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return StepsInTurn(
        run=_spread(times[0]),
        control=_spread(times[1]),
        ratio=_spread(ratios),
        engine=steppers[0].engine,
        images=configs[0].train_dataloader.batch_size,
        threads=torch.get_num_threads(),
        device=steppers[0].device,
        torch=torch.__version__,
    )


class _Stepper:
    """Takes training steps of a model, at a rate of 0."""

    def __init__(self, cfg: Config, checkpoint: Path, engine: bool) -> None:
        set_random_seed(0)
        self.device = get_device()
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
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
        batch = copy.deepcopy(batch)  # preprocessing writes into it
        self._wait()
        start = time.perf_counter()
        self.model.train_step(batch, self.optimizer)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.startswith('cuda'):
            torch.cuda.synchronize()


def _batches(cfg: Config) -> Iterator[Any]:
    """Batches loaded in this process: no worker disturbs the steps."""
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    built = Runner.build_dataloader(loader, seed=0)
    while True:
        yield from built


def _spread(values: list[float]) -> Spread:
    lower, median, upper = quantiles(values, method='inclusive')
    return Spread(lower, median, upper, len(values))
