"""Trace every experiment of a folder with its control, in parallel."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...cost.shape_mode import ShapeMode
from ...tracing.pair import find_pair
from ...tracing.trace_pair import Savings, trace_pair
from ...tracing.workload import Workload
from .comparison import Quantity, compare_totals
from .tables import GIB, GIGA, percent

#: Titles of the columns, by the name of the quantity that they show.
COLUMNS = {
    'step': 'per image',
    'kept for backward': 'kept, GiB',
    'peak of the step': 'peak, GiB',
}


@dataclass(frozen=True)
class PackEntry:
    """Result of tracing one experiment.

    Attributes:
        name: Name of the experiment's config.
        savings: Costs of both states; None if the config could not be traced.
        error: Reason why it could not be traced; empty if it was traced.
    """

    name: str
    savings: Savings | None
    error: str = ''


def trace_pack(
    configs: Sequence[Path],
    read_work: Callable[[Config], Workload],
    processes: int = 1,
) -> Iterator[PackEntry]:
    """Trace every experiment and its control.

    Args:
        configs: Paths of the experiments' configs.
        read_work: Returns the batch that a config is traced with; must be
            picklable.
        processes: Number of worker processes; 1 for none.

    Yields:
        One entry per config, in their order, with empty timelines.
    """
    if processes == 1:
        mode = ShapeMode()
        for config in configs:
            yield _trace_one(config, read_work, mode)
        return
    with ProcessPoolExecutor(
        processes, get_context('spawn'), _prepare, (read_work,)
    ) as pool:
        # workers inherit the signal mask: only this process handles Ctrl-C
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        entries = [pool.submit(_trace_in_worker, one) for one in configs]
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for entry in entries:
                yield entry.result()
        except BaseException:
            for worker in active_children():
                worker.kill()
            raise


#: Arguments of ``_trace_one`` in a worker process, kept between its tasks.
_worker: dict[str, Any] = {}


def _prepare(read_work: Callable[[Config], Workload]) -> None:
    sys.stdout = sys.stderr  # output of MMDetection is not a result
    logging.disable(logging.WARNING)
    _worker.update(read_work=read_work, mode=ShapeMode())


def _trace_in_worker(config: Path) -> PackEntry:
    return _trace_one(config, **_worker)


def _trace_one(
    config: Path, read_work: Callable[[Config], Workload], mode: ShapeMode
) -> PackEntry:
    try:
        pair = find_pair(str(config))
        savings = trace_pair(pair, read_work(pair[0].cfg), mode=mode)
    except (ValueError, OSError) as error:
        return PackEntry(config.stem, None, str(error))
    for side in savings.sides:
        side.step.timeline.clear()
    return PackEntry(config.stem, savings)


def pack_head(macs: bool = False) -> list[str]:
    """Return the column titles for :func:`pack_row`."""
    heads = ['experiment', 'batch']
    for name, head in COLUMNS.items():
        if name == 'step':
            head = f'{"GMACs" if macs else "GFLOPs"} {head}'
        heads += [head, 'saved']
    return heads


def pack_row(entry: PackEntry, macs: bool = False) -> list[str]:
    """Return the cells of one experiment, as ``control -> frozen``."""
    if entry.savings is None:
        return [entry.name, '-', *('-' for _ in COLUMNS for _ in range(2))]
    work = entry.savings.work
    quantities = {q.name: q for q in compare_totals(entry.savings)}
    name = entry.name + ' (PARTIAL)' * bool(entry.savings.left_out)
    cells = [name, f'{work.batch_size}x{work.shape[0]}x{work.shape[1]}']
    for name in COLUMNS:
        cells += _cells(quantities[name], work.batch_size, macs)
    return cells


def _cells(quantity: Quantity, batch_size: int, macs: bool) -> list[str]:
    values = (quantity.control, quantity.frozen)
    if quantity.unit == 'FLOPs':
        unit = batch_size * GIGA * (2 if macs else 1)
        shown = [f'{value / unit:,.0f}' for value in values]
    else:
        shown = [f'{value / GIB:,.1f}' for value in values]
    return [' -> '.join(shown), percent(quantity.saved)]


def entry_record(entry: PackEntry) -> dict[str, Any]:
    """Return one experiment as plain data, for JSON."""
    record: dict[str, Any] = {'name': entry.name, 'error': entry.error}
    if entry.savings is not None:
        record['work'] = asdict(entry.savings.work)
        record['left_out'] = entry.savings.left_out
        record['totals'] = [
            {**asdict(q), 'saved': q.saved}
            for q in compare_totals(entry.savings)
        ]
    return record
