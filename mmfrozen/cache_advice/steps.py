"""This module times training steps of one detector in three ways in turn: with
the plain backbone, with the inference engine, and with given features."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..engine import FrozenEngine
from ..engine.variants import Levels
from ..feature_cache.storage import STORAGES
from ..run_files import Spread
from ..steps_in_turn import Stepper, spread_of
from ..tracing.workload import Workload, set_rois
from .data import timed_batches

WAYS = ('plain', 'engine', 'cache')
#: Rounds that are not timed. On a GPU the engine may compile after ten.
WARM_UP, WARM_UP_CUDA = 2, 12


@dataclass(frozen=True)
class Measured:
    """Times of one process on this machine, in seconds.

    Attributes:
        steps: Time of a step whose batch is already loaded, by way.
        cpu: CPU time of such a step, all threads together, by way.
        forward: Time of preprocessing a batch and computing its features, as
            for filling a cache.
        first: Time of the first such pass, which chooses the engine.
        load: Time of loading and augmenting a batch in one process; None for
            synthetic images.
        workers: Number of loading workers in the config.
        cores: Number of CPU cores that this process may use.
        threads: Number of torch's threads.
        device: Device such as ``'cuda'``.
        torch: Version of torch.
        engine: Last log line of FrozenEngine.
    """

    steps: dict[str, Spread]
    cpu: dict[str, float]
    forward: float
    first: float
    load: float | None
    workers: int
    cores: int
    threads: int
    device: str
    torch: str
    engine: str


def measure_steps(
    cfg: Config,
    work: Workload,
    dataset: Any,
    *,
    storage: str = 'fp16',
    num_steps: int = 8,
) -> Measured:
    """Time steps of one detector with random weights, in three ways in turn.

    Args:
        cfg: Config of the experiment, with a frozen backbone.
        work: Batch size, image size and objects of a step.
        dataset: Train data set; None for synthetic images.
        storage: Dtype in which features are given, a key of ``STORAGES``.
        num_steps: Number of timed steps of each way, at least 2.

    Returns:
        Medians and quartiles of the step times, with other times.

    Raises:
        ValueError: If images of the data set have another size.
        Exception: Any error of the model, the loader or the device.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    cfg = copy.deepcopy(cfg)
    _download_nothing(cfg.model)
    set_rois(cfg.model, work)
    cfg.train_dataloader.batch_size = work.batch_size
    stepper = Stepper(cfg, None, engine=False)
    # the weights of the backbone do not change the time of a step
    stepper.model.backbone.init_cfg = None
    stepper.model.init_weights()
    batches = timed_batches(cfg, work, dataset)
    said: list[str] = []
    ways = Ways(stepper, STORAGES[storage], said.append)
    warm_up = WARM_UP_CUDA if stepper.device == 'cuda' else WARM_UP
    loads, forwards, rounds = [], [], []
    for number in range(warm_up + num_steps):
        batch, load = next(batches)
        _check_size(batch, work)
        loads.append(load)
        forwards.append(ways.prepare(batch))
        order = WAYS[:: 1 if number % 2 else -1]
        rounds.append({way: ways.time_step(way, batch) for way in order})
    rounds = rounds[warm_up:]
    return Measured(
        steps={w: spread_of([r[w][0] for r in rounds]) for w in WAYS},
        cpu={w: median(r[w][1] for r in rounds) for w in WAYS},
        forward=median(forwards[warm_up:]),
        first=forwards[0],
        load=None if dataset is None else median(loads[warm_up:]),
        workers=cfg.train_dataloader.get('num_workers', 0),
        cores=_count_cores(),
        threads=torch.get_num_threads(),
        device=stepper.device,
        torch=torch.__version__,
        engine=said[-1] if said else '',
    )


class Ways:
    """Switch between three ways in which a detector gets its features.

    With the way ``'cache'``, each step copies the features from host memory
    to the device, image by image, and casts them; images are neither
    normalised nor read.

    Args:
        stepper: Stepper of the detector.
        dtype: Dtype in which features are kept for the way ``'cache'``.
        say: Function that logs a line of the engine.
    """

    def __init__(
        self, stepper: Stepper, dtype: torch.dtype, say: Callable[[str], Any]
    ) -> None:
        self._stepper, self._dtype = stepper, dtype
        self._preprocessor = stepper.model.data_preprocessor
        self._backbone = stepper.model.backbone
        self._engine = FrozenEngine(self._backbone, lambda: True, log=say)

    def prepare(self, batch: Any) -> float:
        """Compute the features of a batch by the engine and keep them as a
        cache would; return the seconds that this takes."""
        self.use('engine')
        model, batch = self._stepper.model, copy.deepcopy(batch)
        self._stepper.wait()
        start = time.perf_counter()
        with torch.no_grad(), self._stepper.optimizer.optim_context(model):
            self._data = self._preprocessor(batch, True)
            features = self._backbone(self._data['inputs'])
        self._levels = Levels.of(features)
        self._stored = [
            level.to(self._dtype).cpu().unbind()
            for level in tree_leaves(features)
        ]
        return time.perf_counter() - start

    def use(self, way: str) -> None:
        """Switch to one of WAYS."""
        self._engine.remove()
        vars(self._preprocessor).pop('forward', None)
        if way == 'engine':
            self._backbone.forward = self._engine
        elif way == 'cache':
            self._preprocessor.forward = self._give_samples
            self._backbone.forward = self._give_features

    def time_step(self, way: str, batch: Any) -> tuple[float, float]:
        """Run a step; return its seconds and CPU seconds of all threads."""
        self.use(way)
        start = time.process_time()
        return self._stepper(batch), time.process_time() - start

    def _give_samples(self, batch: Any, training: bool = False) -> Any:
        images = self._data['inputs']
        nothing = images.new_full((1,), torch.nan).expand(images.shape)
        samples = copy.deepcopy(self._data['data_samples'])
        return dict(inputs=nothing, data_samples=samples)

    def _give_features(self, images: Tensor) -> Any:
        return self._levels.wrap(
            [
                torch.stack(views).to(images.device).to(dtype)
                for views, dtype in zip(
                    self._stored, self._levels.dtypes, strict=True
                )
            ]
        )


def _download_nothing(settings: Any) -> None:
    if isinstance(settings, dict):
        if settings.get('pretrained'):
            settings['pretrained'] = None
        settings = settings.values()
    if not isinstance(settings, (str, int, float)):
        for value in settings or ():
            _download_nothing(value)


def _check_size(batch: Any, work: Workload) -> None:
    sizes = {tuple(image.shape[-2:]) for image in batch['inputs']}
    if sizes != {work.shape}:
        found = ', '.join(f'{h} x {w}' for h, w in sorted(sizes))
        raise ValueError(
            f'Images must have {work.shape[0]} x {work.shape[1]} pixels for a '
            f'cache, got {found} from the train pipeline. End it with '
            'Pad(size=...), or set --shape.'
        )


def _count_cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
