"""Test the paper's claims on mini-LVIS, a run at a time, for as long as given.

docs/results.md has the protocol. Each run is trained by ``mim train mmdet``,
recorded as a small file in --records, and not done again; one that was
interrupted goes on from its last checkpoint: run the same command once more,
on any day or machine that has the records. The learning rate of each state is
found first.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from mmfrozen.config_path import find
from mmfrozen.mini_lvis.held_out import hold_out
from mmfrozen.mini_lvis.weights import LITES, add_noise, export_lite
from mmfrozen.reports.claims.cells import (
    CLAIMS,
    STEPS,
    VARIANTS,
    Cell,
    all_cells,
)
from mmfrozen.reports.claims.document import write_document
from mmfrozen.reports.claims.record import (
    CLAIM_RUN,
    ClaimRun,
    choose_rates,
    make_record,
    read_records,
    record_file,
)
from mmfrozen.tracing.training_step import trace_step
from mmfrozen.tracing.workload import read_workload

from . import make_parser, print_line
from .mim_process import Stopped
from .pair import Training

DATA = Path('data/mini_lvis')
ANNOTATIONS = DATA / 'annotations/lvis_v1_train.json'
WEIGHTS = Path('data/weights')

EXAMPLES = """examples:
  mmfrozen reproduce --claim 1 --budget 2
  mmfrozen reproduce --list
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add(
        '--claim',
        type=int,
        nargs='+',
        choices=CLAIMS,
        default=list(CLAIMS),
        metavar='N',
        help=f'{min(CLAIMS)} to {max(CLAIMS)} (default: all)',
    )
    add(
        '--budget',
        type=float,
        default=float('inf'),
        metavar='HOURS',
        help='begin no run that would end after them (default: no limit)',
    )
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/claims'),
        metavar='DIR',
        help='of the work dirs (default: work_dirs/claims)',
    )
    add(
        '--records',
        type=Path,
        default=Path('docs/results'),
        metavar='DIR',
        help='of the records (default: docs/results)',
    )
    add(
        '--keep',
        action='store_true',
        help='keep the checkpoints of recorded runs',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--list',
        action='store_true',
        help='print the runs, which are recorded, and the hours left',
    )
    what.add_argument(
        '--report',
        action='store_true',
        help='write tables and figures of the records to RECORDS.md beside '
        'them',
    )
    args = parser.parse_args()
    if not args.budget > 0:
        parser.error(f'--budget must be above 0, got {args.budget:g}.')
    return args


class Reproduction:
    """Runs that are to be done, and what they take here.

    Args:
        args: Of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cells = all_cells(args.claim)
        self.records = read_records(args.records)
        self.start = time.monotonic()
        self.expected = self.taken = 0.0  # minutes, of what was done

    @property
    def left(self) -> list[Cell]:
        """Runs without a record."""
        return [cell for cell in self.cells if cell not in self.records]

    def hours(self, cells: Sequence[Cell]) -> float:
        """Expected, at the pace of this machine so far."""
        pace = self.taken / self.expected if self.expected else 1.0
        return pace * sum(cell.minutes for cell in cells) / 60

    def list_cells(self) -> None:
        """Print all runs."""
        for cell in self.cells:
            record = self.records.get(cell)
            state = f'{100 * record.last["box AP"]:.1f}' if record else '-'
            print(f'{cell.name:45}{state:>6}')
        print(
            f'{len(self.cells) - len(self.left)} of {len(self.cells)} runs '
            f'are recorded; about {self.hours(self.left):.1f} h left on one '
            'quiet core'
        )

    def run(self) -> None:
        """Do what is left and fits into the budget.

        Raises:
            subprocess.CalledProcessError: If a training fails.
            ValueError: If something is not what it should be.
            OSError: Likewise.
            Stopped: If this process is asked to end.
        """
        for cell in self.left:
            spent = (time.monotonic() - self.start) / 3600
            needed = self.hours([cell])
            if spent + needed > self.args.budget:
                print(
                    f'The next run needs about {needed:.2f} h, and '
                    f'{self.args.budget - spent:.2f} h of --budget are left.',
                    file=sys.stderr,
                )
                return
            done = len(self.cells) - len(self.left)
            print(
                f'{done + 1} of {len(self.cells)}: {cell.name}; {spent:.2f} '
                f'h so far, about {self.hours(self.left):.1f} h left',
                file=sys.stderr,
                flush=True,
            )
            began = time.monotonic()
            is_begun = self._work_dir(cell).exists()
            self.records[cell] = self._train(cell)
            if not is_begun:  # else it says nothing about the pace
                self.expected += cell.minutes
                self.taken += (time.monotonic() - began) / 60

    def _rate(self, cell: Cell) -> float:
        return cell.tuned or choose_rates(self.records)[cell.state]

    def _work_dir(self, cell: Cell) -> Path:
        """Named by the rate, too: a run of another one is not this one."""
        if cell.tuned:
            return self.args.out / cell.name
        return self.args.out / f'{cell.name}_rate{self._rate(cell):g}'

    def _train(self, cell: Cell) -> ClaimRun:
        """Train, record, and remove the checkpoints."""
        rate = self._rate(cell)
        variant = VARIANTS[cell.variant]
        write_weights(variant.weights)
        name = f'{cell.state}/{variant.config}.py'
        options = cell.options(rate)
        if cell.tuned:
            options += self._held_out()
        training = Training(
            find(name),
            argparse.Namespace(
                work_dirs=self.args.out,
                cfg_options=options,
                length=cell.steps / STEPS,
                engine=False,
                gpus=0,
                launcher='none',
            ),
            self._work_dir(cell),
        )
        training()
        twin = self._twin(cell)
        record = make_record(
            cell,
            name.removesuffix('.py'),
            rate,
            training.work_dir,
            twin,
            lambda: trace_step(training.cfg, read_workload(training.cfg)),
        )
        CLAIM_RUN.write(record_file(self.args.records, cell), record)
        if not self.args.keep:
            for file in training.work_dir.glob('*.pth'):
                file.unlink()
        return record

    def _twin(self, cell: Cell) -> Path | None:
        """Work dir of the frozen run of a fine-tuned one, if it is here."""
        if cell.tuned or cell.state != 'finetuned':
            return None
        frozen = self._work_dir(replace(cell, state='frozen'))
        return frozen if (frozen / '.trained').is_file() else None

    def _held_out(self) -> list[str]:
        """Options that train and evaluate on parts of the training set."""
        train, val = hold_out(
            ANNOTATIONS, self.args.out.resolve() / 'held_out'
        )
        options = [f'train_dataloader.dataset.dataset.ann_file={train}']
        for part in ('val', 'test'):
            options += [
                f'{part}_dataloader.dataset.ann_file={val}',
                f'{part}_evaluator.ann_file={val}',
            ]
        return options


def check_data() -> None:
    """Refuse to begin without the data.

    Raises:
        ValueError: If they are not there.
    """
    if not ANNOTATIONS.is_file():
        raise ValueError(
            f'{DATA} must hold mini-LVIS, got none. Write it with `mmfrozen '
            f'mini-lvis --out {DATA}`.'
        )


def write_weights(name: str) -> None:
    """Write a classifier that is not there.

    Raises:
        ValueError: If it cannot be had.
    """
    numbers = {lite.file: lite.number for lite in LITES}
    file = WEIGHTS / name
    if name in numbers:
        export_lite(WEIGHTS, numbers[name])
    elif not file.is_file():
        share = float(file.stem.rpartition('-noise')[2])
        add_noise(export_lite(WEIGHTS, 0), file, share)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """End in one line between trainings, too, which have their own way."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {n: signal.signal(n, stop) for n in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def main() -> int:
    """Return 0 when done, 1 if a run fails, 2 for wrong use."""
    args = parse_args()
    try:
        with stopped_by_signals():
            reproduction = Reproduction(args)
            if args.list:
                reproduction.list_cells()
            elif args.report:
                document = args.records.with_suffix('.md')
                write_document(document, args.records, reproduction.records)
                print(document)
            else:
                check_data()
                reproduction.run()
    except subprocess.CalledProcessError:
        print(
            'error: Training must succeed, got the error above. Mend it and '
            'run the same command: it goes on from the last checkpoint.',
            file=sys.stderr,
        )
        return 1
    except (OSError, ValueError) as error:
        print_line('error', error)
        return 2
    except Stopped as stop:
        name = signal.Signals(stop.args[0]).name
        print(
            f'stopped by {name}: run the same command to go on.',
            file=sys.stderr,
        )
        return 128 + stop.args[0]
    return 0
