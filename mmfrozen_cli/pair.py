"""Train an experiment beside its control and print one table.

Both are trained by ``mim train mmdet``, one after the other. What is
finished is not done again, and what was interrupted goes on from its last
checkpoint: run the same command once more.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from mmfrozen.memory_limit import read_record
from mmfrozen.pairing import CONTROLS, in_state
from mmfrozen.reports.runs.evaluations import check_evaluations
from mmfrozen.reports.runs.work_dir import pair_table, read_run

from . import make_parser, print_line
from .console import PlainConsole

EXAMPLES = """examples:
  mmfrozen pair configs/frozen/mask_rcnn_lite0_mini-lvis.py
  mmfrozen pair configs/frozen/mask_rcnn_r101_lvis.py \\
      --gpus 8 --launcher pytorch --control scratch
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        'config', type=Path, help='experiment, configs/frozen/NAME.py'
    )
    parser.add_argument('--control', default='finetuned', choices=CONTROLS)
    parser.add_argument(
        '--work-dirs',
        type=Path,
        default=Path('work_dirs'),
        metavar='DIR',
        help='runs go to DIR/STATE/NAME (default: work_dirs)',
    )
    parser.add_argument('--gpus', type=int, default=0)
    parser.add_argument(
        '--launcher', default='none', choices=('none', 'pytorch')
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="overrides for both, as MMDetection's train.py takes them",
    )
    return parser.parse_args()


#: The training saves when it gets SIGTERM, not when it is interrupted.
HANDED_ON = {
    signal.SIGINT: signal.SIGTERM,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    signal.SIGUSR1: signal.SIGUSR1,
}


class Stopped(Exception):
    """Raised with the number of the signal that asked for it."""


def mim(
    command: str,
    config: Path,
    work_dir: Path,
    args: argparse.Namespace,
    *more: str,
) -> None:
    """Call the real mim on one config.

    Raises:
        CalledProcessError: If it fails.
        Stopped: If this process was asked to end: mim's was, too.
    """
    options = ('--cfg-options', *args.cfg_options) if args.cfg_options else ()
    with _lock(work_dir) as lock:
        _run(
            sys.executable,
            '-m',
            'mmfrozen_cli.mim_child',
            command,
            'mmdet',
            str(config),
            '--gpus',
            str(args.gpus),
            '--launcher',
            args.launcher,
            '--work-dir',
            str(work_dir),
            *more,
            *options,
            lock=lock,
        )


@contextlib.contextmanager
def _lock(work_dir: Path) -> Iterator[int]:
    """Keep others away: when this process is killed, training goes on."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with open(work_dir / '.lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f'{work_dir} must be free, got one in which a run of before '
                'still trains. Wait for it, or end it.'
            ) from None
        yield file.fileno()


def _run(*command: str, lock: int) -> None:
    """Run a command in a session of its own and hand signals on."""
    asked: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, HANDED_ON[number])

    process = None
    former = {
        number: signal.signal(number, hand_on)
        for number in HANDED_ON
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        process = subprocess.Popen(
            command, start_new_session=True, pass_fds=[lock]
        )
        if asked:
            hand_on(asked[0], None)
        status = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if asked:
        raise Stopped(asked[0])
    if status:
        raise subprocess.CalledProcessError(status, command)


def train(config: Path, work_dir: Path, args: argparse.Namespace) -> None:
    """Train to the end and evaluate, or what is left of it."""
    done = work_dir / '.trained'
    if done.is_file():
        print(f'{config}: trained already, see {work_dir}', file=sys.stderr)
        return
    last_checkpoint(work_dir)  # which it resumes from
    mim('train', config, work_dir, args, '--resume')
    if not read_run(work_dir).metrics:  # it had broken off in its evaluation
        last = last_checkpoint(work_dir)
        mim('test', config, work_dir, args, '--checkpoint', str(last))
    done.touch()


def last_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint that a work dir names as its last.

    Raises:
        ValueError: If it is not in the work dir.
    """
    file = work_dir / 'last_checkpoint'
    if not file.is_file():
        return None
    last = Path(read_record(file, 'Remove it.').decode().strip())
    if last.resolve().parent != work_dir.resolve():
        raise ValueError(
            f'{file} must name a checkpoint in its folder, got {str(last)!r}. '
            'Correct it, or remove it to begin anew.'
        )
    return last.resolve()


def main() -> int:
    args = parse_args()
    control = in_state(args.config, args.control)
    for config in (args.config, control):
        if not config.is_file():
            print(
                'error: An experiment and its control must exist, got '
                f'{str(config)!r}, which does not. Give a file of '
                'configs/frozen/.',
                file=sys.stderr,
            )
            return 2
    runs, work_dirs = {}, []
    for config in (args.config, control):
        work_dir = args.work_dirs / config.parent.name / config.stem
        work_dirs.append(work_dir)
        try:
            train(config, work_dir, args)
        except subprocess.CalledProcessError:
            print(
                f'error: Training {config} must succeed, got the error above. '
                'Mend it and run the same command: it goes on from the '
                'last checkpoint.',
                file=sys.stderr,
            )
            return 1
        except (OSError, ValueError) as error:
            print_line('error', error)
            return 1
        except Stopped as stop:
            number = stop.args[0]
            name = signal.Signals(number).name
            print(
                f'stopped by {name}: run the same command to go on.',
                file=sys.stderr,
            )
            return 128 + number
        runs[config.parent.name] = read_run(work_dir)
    try:
        check_evaluations(work_dirs)
    except ValueError as error:
        print_line('error', error)
        return 1
    steps = {run.step for run in runs.values()}
    PlainConsole().print(
        pair_table(
            runs,
            f'{args.config.stem}, step {max(steps)}: AP in per cent, '
            'last evaluation',
        )
    )
    return 0
