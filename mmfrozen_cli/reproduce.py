"""Test the paper's claims on mini-LVIS, one training run after the other.

docs/results.md describes the protocol. The learning rate of each state is
tuned first. Each run is trained by `mim train mmdet` and recorded as a small
file in --records; recorded runs are not repeated. To continue, run the same
command again, also on another machine that has the records: an interrupted
run resumes from its last checkpoint. To use several cores, start the command
several times with OMP_NUM_THREADS=1: the processes share the runs among them.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from mmfrozen.config_path import find
from mmfrozen.lock import InUseError, locked
from mmfrozen.mini_lvis.held_out import hold_out
from mmfrozen.mini_lvis.weights import LITES, add_noise, export_lite
from mmfrozen.reports.claims.cells import (
    CAPACITIES,
    CLAIMS,
    PAIR,
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
    steps_file,
)
from mmfrozen.run_files import STEPS_IN_TURN
from mmfrozen.steps_in_turn import measure_in_turn
from mmfrozen.tracing.training_step import trace_step
from mmfrozen.tracing.workload import read_workload

from . import make_parser
from .mim_process import Stopped, report_failure
from .pair import Training

DATA = Path('data/mini_lvis')
ANNOTATIONS = DATA / 'annotations/lvis_v1_train.json'
WEIGHTS = Path('data/weights')
WAIT = 10.0  # seconds between reads of the records of other processes
NUM_PAIRS = 30  # pairs of steps that are timed in turn

EXAMPLES = """exit status: 0 done, 1 a run failed, 2 invalid input

examples:
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
        help=f'claims to test, {min(CLAIMS)} to {max(CLAIMS)} (default: all)',
    )
    add(
        '--budget',
        type=float,
        default=float('inf'),
        metavar='HOURS',
        help='start no run that is expected to end after this time '
        '(default: no limit)',
    )
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/claims'),
        metavar='DIR',
        help='folder of the work dirs (default: work_dirs/claims)',
    )
    add(
        '--records',
        type=Path,
        default=Path('docs/results'),
        metavar='DIR',
        help='folder of the records (default: docs/results)',
    )
    add(
        '--keep',
        action='store_true',
        help='keep the checkpoints of recorded runs, which are otherwise '
        'deleted',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--list',
        action='store_true',
        help='list all runs with the box AP of recorded ones, and the hours '
        'left',
    )
    what.add_argument(
        '--report',
        action='store_true',
        help='write tables and figures of the records to a Markdown file '
        'beside their folder (default: docs/results.md)',
    )
    args = parser.parse_args()
    if not args.budget > 0:
        parser.error(f'--budget must be above 0, got {args.budget:g}.')
    return args


class Reproduction:
    """Requested runs, with their records and the pace of this machine.

    Args:
        args: Parsed command line.

    Attributes:
        cells: The requested runs, in the order in which they are trained.
        records: Records of the runs that are done, by cell.
        start: Start of this command, ``time.monotonic`` seconds.
        expected: Expected minutes of the runs that this command trained from
            their start.
        taken: Minutes that these runs took.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cells = all_cells(args.claim)
        self.records = read_records(args.records)
        self.start = time.monotonic()
        self.expected = self.taken = 0.0

    @property
    def left(self) -> list[Cell]:
        """Runs without a record, and frozen runs to repeat.

        A frozen run that another machine recorded without its fine-tuned pair
        is repeated, as a pair needs the work dirs of both runs.
        """
        return [
            cell
            for cell in self.cells
            if cell not in self.records or self._lacks_work_dir(cell)
        ]

    def _lacks_work_dir(self, frozen: Cell) -> bool:
        finetuned = replace(frozen, state='finetuned')
        return (
            frozen.state == 'frozen'
            and not frozen.tuned
            and finetuned in self.cells
            and finetuned not in self.records
            and not self._is_trained(frozen)
        )

    def hours(self, cells: Sequence[Cell]) -> float:
        """Return the expected hours of runs, at this machine's pace so far."""
        pace = self.taken / self.expected if self.expected else 1.0
        return pace * sum(cell.minutes for cell in cells) / 60

    def list_cells(self) -> None:
        """Print all runs with their box AP, and the hours left."""
        for cell in self.cells:
            record = self.records.get(cell)
            state = f'{100 * record.last["box AP"]:.1f}' if record else '-'
            print(f'{cell.name:45}{state:>6}')
        print(
            f'{len(self.cells) - len(self.left)} of {len(self.cells)} runs '
            f'are recorded; about {self.hours(self.left):.1f} h left on one '
            'idle core'
        )

    def run(self) -> None:
        """Train and record the runs that are left, within the budget.

        Several processes may do so in the same folders. A process skips
        the runs that another one trains, and ends when all are recorded.

        Raises:
            subprocess.CalledProcessError: If a training fails.
            ValueError: If weights or files of a run are not valid.
            OSError: If a file cannot be read or written.
            Stopped: If this process receives a signal to end.
        """
        while self.left:
            left = self.left
            for pair in self._pairs():
                # a pair in use is trained by another process
                with (
                    contextlib.suppress(InUseError),
                    self._lock(pair[0].pair),
                ):
                    self.records = read_records(self.args.records)
                    for cell in pair:
                        if cell in self.left and not self._run(cell):
                            return
            if left == self.left:
                time.sleep(WAIT)
            self.records = read_records(self.args.records)
        # one process at a time, since both would slow each other
        with contextlib.suppress(InUseError), self._lock('steps'):
            self._time_steps()

    def _lock(self, name: str) -> contextlib.AbstractContextManager[int]:
        """Return a lock on a pair or a task, for one process at a time."""
        file = self.args.out / f'.{name}.lock'
        self.args.out.mkdir(parents=True, exist_ok=True)
        file.touch()
        return locked(file)

    def _pairs(self) -> list[list[Cell]]:
        """Return the runs that can be trained now, grouped by pair.

        One process trains both runs of a pair, since the confidence interval
        over images needs both work dirs.
        """
        pairs: dict[str, list[Cell]] = {}
        rates = choose_rates(self.records)
        for cell in self.left:
            pairs.setdefault(cell.pair, []).append(cell)
        return [
            pair
            for pair in pairs.values()
            if all(cell.tuned or cell.state in rates for cell in pair)
        ]

    def _run(self, cell: Cell) -> bool:
        """Train and record a run; return whether the budget allowed it."""
        spent = (time.monotonic() - self.start) / 3600
        needed = self.hours([cell])
        if spent + needed > self.args.budget:
            print(
                f'The next run needs about {needed:.2f} h, and '
                f'{self.args.budget - spent:.2f} h of --budget are left.',
                file=sys.stderr,
            )
            return False
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
        if not is_begun:  # the time of a resumed run does not show the pace
            self.expected += cell.minutes
            self.taken += (time.monotonic() - began) / 60
        return True

    def _rate(self, cell: Cell) -> float:
        return cell.tuned or choose_rates(self.records)[cell.state]

    def _work_dir(self, cell: Cell) -> Path:
        """Return the work dir of a run. Its name has the learning rate, so
        that a run with another rate is not resumed."""
        if cell.tuned:
            return self.args.out / cell.name
        return self.args.out / f'{cell.name}_rate{self._rate(cell):g}'

    def _training(self, cell: Cell) -> Training:
        """Return a run with its config, options and work dir."""
        options = cell.options(self._rate(cell))
        if cell.tuned:
            options += self._held_out()
        return Training(
            find(_config(cell)),
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

    def _train(self, cell: Cell) -> ClaimRun:
        """Train a run, write its record and remove its checkpoints."""
        write_weights(VARIANTS[cell.variant].weights)
        training = self._training(cell)
        training()
        twin = self._twin(cell)
        record = make_record(
            cell,
            _config(cell).removesuffix('.py'),
            self._rate(cell),
            training.work_dir,
            twin,
            lambda: trace_step(training.cfg, read_workload(training.cfg)),
        )
        CLAIM_RUN.write(record_file(self.args.records, cell), record)
        if not self.args.keep:
            for file in training.work_dir.glob('*.pth'):
                file.unlink()
        return record

    def _time_steps(self) -> None:
        """Time steps of the pair of each capacity in turn, unless recorded."""
        for variant in CAPACITIES:
            file = steps_file(self.args.records, variant)
            cells = [Cell(variant, state) for state in PAIR]
            if file.exists() or not set(cells) <= set(self.cells):
                continue
            print(f'steps of {variant} in turn', file=sys.stderr, flush=True)
            write_weights(VARIANTS[variant].weights)
            times = measure_in_turn(
                [self._training(cell).cfg for cell in cells],
                [None, None],
                num_pairs=NUM_PAIRS,
                engine=False,
            )
            STEPS_IN_TURN.write(file, times)

    def _twin(self, cell: Cell) -> Path | None:
        """Return the work dir of a fine-tuned run's frozen twin; None if the
        twin was not trained here."""
        if cell.tuned or cell.state != 'finetuned':
            return None
        frozen = replace(cell, state='frozen')
        return self._work_dir(frozen) if self._is_trained(frozen) else None

    def _is_trained(self, cell: Cell) -> bool:
        return (self._work_dir(cell) / '.trained').is_file()

    def _held_out(self) -> list[str]:
        """Write annotation files of two parts of the training set; return the
        options to train on one and evaluate on the other."""
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


def _config(cell: Cell) -> str:
    return f'{cell.state}/{VARIANTS[cell.variant].config}.py'


def check_data() -> None:
    """Check that mini-LVIS exists.

    Raises:
        ValueError: If its annotations are missing.
    """
    if not ANNOTATIONS.is_file():
        raise ValueError(
            f'{DATA} must hold mini-LVIS, got none. Write it with `mmfrozen '
            f'mini-lvis --out {DATA}`.'
        )


def write_weights(name: str) -> None:
    """Write a classifier's weights unless the file exists.

    Args:
        name: Name of the file, as in ``Variant.weights``.

    Raises:
        ValueError: If the package with the weights is missing or differs.
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
    """Turn signals into ``Stopped``, so that the command also ends with one
    line between trainings; during a training, run_mim handles signals."""

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
    """Return 0 when done, 1 if a run fails, 2 for invalid input."""
    args = parse_args()
    return report_failure(lambda: reproduce(args), refused=2)


def reproduce(args: argparse.Namespace) -> None:
    """List or train the runs, or write the report."""
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
