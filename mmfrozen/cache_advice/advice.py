"""This module predicts costs and savings of a feature cache from measured
steps and disk rates, and recommends a cache, the engine or neither."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from ..feature_cache.storage import STORAGES, amount
from .disk import Disk
from .features import Shapes, view_bytes
from .steps import Measured

#: A way is preferred only if it takes less than this share of another's time.
WORTH_IT = 0.97


@dataclass(frozen=True)
class Question:
    """Content of a cache and the training that would use it.

    Attributes:
        config: Config as the user typed it.
        batch_size: Images per step of one process.
        size: Height and width of the images in pixels.
        dtype: Dtype of the training step.
        shapes: Shape of one image's feature map of each level.
        storage: Dtype of the cache.
        views: Number of augmented views stored of each image.
        images: Number of images that have views.
        draws: Number of samples per epoch; more than ``images`` where some
            are repeated.
        epochs: Length of the schedule in epochs.
        gpus: Number of processes that train from the same disk.
        step_flops: FLOPs of a step with a frozen backbone.
        backbone_flops: The part of them in the backbone.
    """

    config: str
    batch_size: int
    size: tuple[int, int]
    dtype: str
    shapes: Shapes
    storage: str
    views: int
    images: int
    draws: int
    epochs: float
    gpus: int
    step_flops: int
    backbone_flops: int

    @property
    def total_bytes(self) -> dict[str, int]:
        """Bytes of the whole cache, by storage dtype."""
        number = self.views * self.images
        return {s: number * view_bytes(self.shapes, s) for s in STORAGES}

    @property
    def batch_bytes(self) -> int:
        """Bytes that all processes together read in a step."""
        view = view_bytes(self.shapes, self.storage)
        return self.gpus * self.batch_size * view

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""
        return math.ceil(self.draws / (self.batch_size * self.gpus))


@dataclass(frozen=True)
class Prediction:
    """Predicted duration of training and filling.

    Attributes:
        steps: Seconds of a step in the training loop, loading included, by
            way: ``'plain'``, ``'engine'``, ``'cache'``.
        needed_rate: Bytes per second that the steps of all processes read if
            they never wait for data.
        read_rate: Bytes per second that can be read.
        from_memory: Whether the cache takes less than half of the free
            memory, from which it is then read after the first epoch.
        fill: Seconds of filling the cache.
        break_even: Number of epochs after which the cache has saved the time
            of filling; infinite if never.
    """

    steps: dict[str, float]
    needed_rate: float
    read_rate: float
    from_memory: bool
    fill: float
    break_even: float

    @property
    def best_other(self) -> str:
        """The faster way without a cache; the engine only if it saves 3 %."""
        engine, plain = self.steps['engine'], self.steps['plain']
        return 'engine' if engine < WORTH_IT * plain else 'plain'


@dataclass(frozen=True)
class Verdict:
    """Recommendation and its reason.

    Attributes:
        use: ``'plain'``, ``'engine'``, ``'cache'``; ``'measure'`` if only a
            measurement can decide.
        because: The reason, as text.
    """

    use: str
    because: str


def predict(
    question: Question, disk: Disk, measured: Measured, free_memory: int
) -> Prediction:
    """Return the predicted durations of training and filling.

    Args:
        question: Content of the cache, and the training.
        disk: Measured rates of the disk.
        measured: Measured times of steps.
        free_memory: Bytes of memory in which the system can cache files.
    """
    load = measured.load or 0.0
    cores = measured.cores / question.gpus
    loop = partial(in_loop, workers=measured.workers, cores=cores)
    steps = {
        way: loop(measured.steps[way].median, measured.cpu[way], load, load)
        for way in ('plain', 'engine')
    }
    total = question.total_bytes[question.storage]
    from_memory = 2 * total < free_memory
    memory_rate = disk.memory_rate or math.inf
    rate = memory_rate if from_memory else disk.read_rate or math.inf
    cached = measured.steps['cache'].median
    # more reading processes do not make a disk faster
    steps['cache'] = in_loop(
        cached,
        measured.cpu['cache'],
        question.batch_bytes / rate,
        question.batch_bytes / question.gpus / memory_rate,
        workers=min(measured.workers, 1),
        cores=cores,
    )
    write = question.batch_bytes / (disk.write_rate or math.inf)
    forward = measured.forward + write
    filling = loop(forward, forward, load, load)
    number = question.views * question.images
    fill = (
        measured.first + filling * number / question.batch_size / question.gpus
    )
    best = min(steps['plain'], steps['engine'])
    saved = (best - steps['cache']) * question.steps_per_epoch
    return Prediction(
        steps=steps,
        needed_rate=question.batch_bytes / cached,
        read_rate=rate,
        from_memory=from_memory,
        fill=fill,
        break_even=fill / saved if saved > 0 else math.inf,
    )


def in_loop(
    step: float,
    cpu: float,
    load: float,
    load_cpu: float,
    *,
    workers: int,
    cores: float,
) -> float:
    """Return the seconds of a step while workers load the next batches.

    The slowest of three sets the pace: the step, the workers, or the cores
    that both share.

    Args:
        step: Seconds of a step whose batch is already loaded.
        cpu: CPU seconds of that step, all threads together.
        load: Seconds of loading a batch in one process.
        load_cpu: CPU seconds of loading it.
        workers: Number of loading workers; with 0 the training process loads.
        cores: CPU cores that training and loading share.
    """
    if not workers:
        return step + load
    return max(step, load / workers, (cpu + load_cpu) / cores)


def decide(
    question: Question, disk: Disk, prediction: Prediction | None
) -> Verdict:
    """Return what to use, and why.

    Args:
        question: Content of the cache, and the training.
        disk: Free space of the disk.
        prediction: Predicted durations; None if nothing was measured.
    """
    total = question.total_bytes[question.storage]
    other = prediction.best_other if prediction else 'engine'
    if total > disk.free:
        return Verdict(
            other,
            f'the cache would need {amount(total)}, {amount(disk.free)} are '
            f'free in {disk.folder}',
        )
    if prediction is None:
        share = question.backbone_flops / question.step_flops
        return Verdict(
            'measure',
            f'the backbone is {share:.0%} of the FLOPs of a step, the cache '
            f'{amount(total)}; FLOPs alone do not decide',
        )
    best = min(prediction.steps['plain'], prediction.steps['engine'])
    cached = prediction.steps['cache']
    if cached > WORTH_IT * best:
        if prediction.needed_rate > prediction.read_rate:
            return Verdict(
                other,
                'reading is the bottleneck: cached steps need '
                f'{amount(prediction.needed_rate)}/s, the disk gives '
                f'{amount(prediction.read_rate)}/s',
            )
        return Verdict(
            other,
            f'a step from the cache is not faster: {cached:.3g} s, {best:.3g} '
            's without one',
        )
    epochs = f'{question.epochs:.3g}'
    if prediction.break_even > question.epochs:
        return Verdict(
            other,
            f'filling would pay after {prediction.break_even:.3g} epochs, '
            f'the schedule has {epochs}; several runs that share the cache '
            'may reach them',
        )
    return Verdict(
        'cache',
        f'a step takes {cached / best:.2f} of the time without one; filling '
        f'pays after {prediction.break_even:.3g} of {epochs} epochs',
    )
