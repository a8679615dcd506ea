"""What a cache of features costs, what it saves, and whether to use one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from .disk import Disk
from .features import STORAGES, Shapes, view_bytes
from .steps import Measured

#: A way must take less than this share of another to be preferred.
WORTH_IT = 0.97


@dataclass(frozen=True)
class Question:
    """What a cache would hold, and for which training.

    Attributes:
        config: As the user typed it.
        batch_size: Images a step, of one process.
        size: Height and width of the images, pixels.
        dtype: Of the step.
        shapes: Of the levels of an image.
        storage: Dtype of the cache.
        views: Augmented views that are stored of each image.
        images: That have views.
        draws: Images of an epoch; more, where some are repeated.
        epochs: Of the schedule.
        gpus: Processes that train from the same disk.
        step_flops: Of a step with a frozen backbone.
        backbone_flops: Those of them in the backbone.
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
        """Of the whole cache, by dtype."""
        number = self.views * self.images
        return {s: number * view_bytes(self.shapes, s) for s in STORAGES}

    @property
    def batch_bytes(self) -> int:
        """Read in a step by all processes."""
        view = view_bytes(self.shapes, self.storage)
        return self.gpus * self.batch_size * view

    @property
    def steps_per_epoch(self) -> int:
        """Steps that draw all images once."""
        return math.ceil(self.draws / (self.batch_size * self.gpus))


@dataclass(frozen=True)
class Prediction:
    """What training and filling will take, in seconds.

    Attributes:
        steps: Of a step of the training loop, its data loaded meanwhile, by
            way: ``'plain'``, ``'engine'``, ``'cache'``.
        needed_rate: Bytes a second that steps of all processes read, if
            nothing is waited for.
        read_rate: Bytes a second that can be read.
        from_memory: Whether the cache fits into free memory, from which it
            is read after the first epoch.
        fill: Of filling the cache.
        break_even: Epochs after which filling has paid; infinite if never.
    """

    steps: dict[str, float]
    needed_rate: float
    read_rate: float
    from_memory: bool
    fill: float
    break_even: float

    @property
    def best_other(self) -> str:
        """The faster way without a cache; plain where both are alike."""
        engine, plain = self.steps['engine'], self.steps['plain']
        return 'engine' if engine < WORTH_IT * plain else 'plain'


@dataclass(frozen=True)
class Verdict:
    """What to use.

    Attributes:
        use: ``'plain'``, ``'engine'``, ``'cache'``; ``'measure'`` where
            nothing was measured that decides.
        because: Why, in words.
    """

    use: str
    because: str


def predict(
    question: Question, disk: Disk, measured: Measured, free_memory: int
) -> Prediction:
    """Work out what training and filling will take.

    Args:
        question: What would be cached.
        disk: Measured.
        measured: Steps.
        free_memory: Bytes that the system could keep files in.
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
    # a disk gets no faster by more processes that read
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
    """Seconds of a step in a loop whose data are loaded meanwhile.

    Whatever takes longest sets the pace: the step, the processes that load,
    or the cores that both share.

    Args:
        step: Of a step whose batch is at hand.
        cpu: The CPU's in it, all threads together.
        load: Of loading a batch in one process.
        load_cpu: The CPU's in that.
        workers: Processes that load; 0: the one that trains does.
        cores: That both share.
    """
    if not workers:
        return step + load
    return max(step, load / workers, (cpu + load_cpu) / cores)


def decide(
    question: Question, disk: Disk, prediction: Prediction | None
) -> Verdict:
    """Say what to use, and why."""
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
                f'reading binds: cached steps need '
                f'{amount(prediction.needed_rate)}/s, the disk gives '
                f'{amount(prediction.read_rate)}/s',
            )
        return Verdict(
            other,
            f'a step from the cache gains nothing: {cached:.3g} s, '
            f'{best:.3g} s without one',
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


def amount(nbytes: float) -> str:
    """Bytes in a decimal unit: 62.9 MB."""
    for unit in ('B', 'kB', 'MB', 'GB'):
        if nbytes < 999.5:
            return f'{nbytes:.3g} {unit}'
        nbytes /= 1000
    return f'{nbytes:,.3g} TB'
