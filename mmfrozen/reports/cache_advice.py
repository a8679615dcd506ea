"""Draw the tables of ``mmfrozen cache-advice``: costs of a feature cache."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from ..cache_advice.advice import Prediction, Question, Verdict, amount
from ..cache_advice.disk import Disk
from ..cache_advice.features import view_bytes
from ..cache_advice.steps import WAYS, Measured
from ..run_files import replace_non_finite
from .savings.tables import draw, giga

#: A CPU step that gets less than this share of its cores' time is slowed down
#: by other programs.
BUSY = 0.6


def conditions(question: Question, measured: Measured | None) -> list[str]:
    """Return lines with the conditions under which the figures hold."""
    height, width = question.size
    levels = ', '.join(' x '.join(map(str, s)) for s in question.shapes)
    lines = [
        f'{question.config}: batch {question.batch_size} x 3 x {height} x '
        f'{width}, {question.dtype}; {question.gpus} process(es)',
        f'levels of an image: {levels}',
        f'{question.images:,} images x {question.views} views; '
        f'{question.draws:,} images per epoch, {question.epochs:.3g} epochs',
        f'FLOPs of a step (2 per multiply-add): {giga(question.step_flops)} '
        f'G, of which the backbone {giga(question.backbone_flops)} G, which a '
        'cache saves',
    ]
    if measured:
        lines.append(
            f'{measured.device}, torch {measured.torch}, {measured.threads} '
            f'thread(s), {measured.cores} core(s), {measured.workers} '
            'process(es) that load; random weights, steps in turn'
        )
        lines.append(measured.engine)
        share = measured.cpu['plain'] / measured.steps['plain'].median
        if measured.device == 'cpu' and share < BUSY * measured.threads:
            lines.append(
                f'WARNING: a step got {share / measured.threads:.0%} of the '
                'time of its core(s): other programs run on this machine, and '
                'all times are too long'
            )
        if measured.load is None:
            lines.append(
                'images are synthetic: the time that a cache saves in loading '
                'and augmenting them is not included'
            )
    return lines


def draw_bytes(question: Question, disk: Disk) -> Table:
    """Draw the table of the size of a cache, one row per storage dtype."""
    rows = [
        [
            storage + (' *' if storage == question.storage else ''),
            amount(view_bytes(question.shapes, storage)),
            amount(total),
            'yes' if total <= disk.free else 'no',
        ]
        for storage, total in question.total_bytes.items()
    ]
    title = f'Bytes; {amount(disk.free)} free in {disk.folder}'
    return draw(title, ['stored in', 'a view', 'in all', 'fits'], rows, 0)


def draw_steps(measured: Measured, prediction: Prediction) -> Table:
    """Draw the table of the seconds of a step, one row per way (``WAYS``)."""
    base = prediction.steps['plain']
    rows = []
    for way in WAYS:
        step, expected = measured.steps[way], prediction.steps[way]
        rows.append(
            [
                way,
                f'{step.median:.3g} [{step.lower:.3g} to {step.upper:.3g}]',
                f'{expected:.3g}',
                f'{expected / base:.2f}',
            ]
        )
    num = measured.steps['plain'].num
    head = ['', 'batch already loaded', 'in the loop', 'of plain']
    title = f'Seconds of a step: median [quartiles] of {num}'
    return draw(title, head, rows, 0)


def draw_disk(
    question: Question, disk: Disk, measured: Measured, prediction: Prediction
) -> Table:
    """Draw the table of read rates, filling and the whole schedule."""
    source = 'memory, where it fits' if prediction.from_memory else 'the disk'
    if disk.is_memory and not prediction.from_memory:
        source += ', too high: the system kept the file in memory'
    load = '-' if measured.load is None else f'{measured.load:.3g} s'
    rows = [
        ['loading and augmenting a batch, one process', load],
        ['backbone of a batch, by the engine', f'{measured.forward:.3g} s'],
        ['read rate needed', f'{amount(prediction.needed_rate)}/s'],
        [f'read rate of {source}', f'{amount(prediction.read_rate)}/s'],
        ['write rate', f'{amount(disk.write_rate or 0)}/s'],
        ['filling', span(prediction.fill)],
        *(
            [f'the schedule, {way}', span(prediction.steps[way] * steps)]
            for steps in [question.epochs * question.steps_per_epoch]
            for way in WAYS
        ),
        ['filling pays after', f'{prediction.break_even:.3g} epochs'],
    ]
    return draw('Reading, filling and the whole', ['', 'value'], rows, 0)


def span(seconds: float) -> str:
    """Return a duration as text, in seconds, minutes or hours."""
    if seconds < 120:
        return f'{seconds:.3g} s'
    return (
        f'{seconds / 60:.3g} min'
        if seconds < 7200
        else (f'{seconds / 3600:,.3g} h')
    )


def to_record(
    question: Question,
    disk: Disk,
    measured: Measured | None,
    prediction: Prediction | None,
    verdict: Verdict,
) -> dict[str, Any]:
    """Return all figures as plain data for JSON; infinite ones are null."""
    return replace_non_finite(
        dict(
            question=asdict(question),
            view_bytes=view_bytes(question.shapes, question.storage),
            total_bytes=question.total_bytes,
            disk=asdict(disk),
            measured=measured and asdict(measured),
            prediction=prediction and asdict(prediction),
            verdict=asdict(verdict),
        )
    )
