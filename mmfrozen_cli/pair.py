"""Train an experiment and its control, and compare their costs and AP.

Both are trained by `mim train mmdet`, one after the other. Then both models
take steps in turn in one process, to compare the time of a step. --equal-time
trains the experiment once more, for as long as its control took. If the
command was interrupted, run it again: it skips finished runs and resumes from
the last checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from pathlib import Path

from mmengine.config import Config, DictAction

from mmfrozen.atomic_write import write_text
from mmfrozen.config_file import load_config
from mmfrozen.errors import one_line
from mmfrozen.memory_limit import read_record
from mmfrozen.pairing import CONTROLS, config_in_state
from mmfrozen.reports.config_text import read_plain_config
from mmfrozen.reports.pair.comparison import compare_pair
from mmfrozen.reports.pair.page import describe, write_pair_page
from mmfrozen.reports.pair.tables import make_tables
from mmfrozen.reports.runs.work_dir import read_run
from mmfrozen.reports.text_table import draw_table
from mmfrozen.run_files import STEPS_IN_TURN, StepsInTurn
from mmfrozen.schedule import length_of, stretch
from mmfrozen.steps_in_turn import measure_in_turn

from . import make_parser
from .console import PlainConsole
from .mim_process import report_failure, run_mim
from .progress import Progress

ENGINE = 'mmfrozen.FrozenEngineHook'

EXAMPLES = """exit status: 0 done, 1 a run failed, 2 a config is missing

examples:
  mmfrozen pair configs/frozen/mask_rcnn_lite0_mini-lvis.py \\
      --equal-time --engine --length 0.25
  mmfrozen pair configs/frozen/mask_rcnn_r101_lvis.py \\
      --gpus 8 --launcher pytorch --control scratch
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        'config',
        type=Path,
        metavar='CONFIG',
        help='config of the experiment, configs/frozen/NAME.py',
    )
    parser.add_argument(
        '--control',
        default='finetuned',
        choices=CONTROLS,
        help='state of the control (default: finetuned)',
    )
    parser.add_argument(
        '--work-dirs',
        type=Path,
        default=Path('work_dirs'),
        metavar='DIR',
        help='write runs to DIR/STATE/NAME (default: work_dirs)',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=0,
        metavar='N',
        help='number of GPUs with --launcher pytorch; without a launcher a '
        'run uses one GPU, if there is one (default: 0)',
    )
    parser.add_argument(
        '--launcher',
        default='none',
        choices=('none', 'pytorch'),
        help='pytorch for several GPUs (default: none)',
    )
    parser.add_argument(
        '--equal-time',
        action='store_true',
        help='train the experiment once more, on a schedule of as many steps '
        'as fit into the training time of its control',
    )
    parser.add_argument(
        '--in-turn',
        type=int,
        default=12,
        metavar='PAIRS',
        help='number of pairs of steps to time; 0 for none (default: 12)',
    )
    parser.add_argument(
        '--length',
        type=float,
        default=1.0,
        metavar='SHARE',
        help="train both for this share of the config's schedule (default: 1)",
    )
    parser.add_argument(
        '--engine',
        action='store_true',
        help='run the frozen backbone as an inference engine (docs/engine.md)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="override keys of both configs, as in MMDetection's train.py",
    )
    args = parser.parse_args()
    if args.in_turn < 0 or args.in_turn == 1:
        parser.error(
            f'--in-turn must be 0, or at least 2, got {args.in_turn}.'
        )
    if args.equal_time and not args.in_turn:
        parser.error('--equal-time must have step times: remove --in-turn 0.')
    for option in args.cfg_options:
        if '=' not in option:
            parser.error(f'--cfg-options must be KEY=VALUE, got {option!r}.')
    if not 0 < args.length < float('inf'):
        parser.error(f'--length must be above 0, got {args.length:g}.')
    return args


def last_checkpoint(work_dir: Path) -> Path | None:
    """Return the path in a work dir's ``last_checkpoint``; None without it.

    Raises:
        ValueError: If it is not a path in the work dir.
    """
    file = work_dir / 'last_checkpoint'
    if not file.is_file():
        return None
    last = Path(read_record(file, 'Remove it.').decode().strip())
    if last.resolve().parent != work_dir.resolve():
        raise ValueError(
            f'{file} must name a checkpoint in its folder, got {str(last)!r}. '
            'Correct it, or remove it to train from the start.'
        )
    return last.resolve()


def load(config: Path, options: list[str]) -> Config:
    """Load a config and merge ``--cfg-options`` into it."""
    parser = argparse.ArgumentParser()
    parser.add_argument('-o', nargs='*', action=DictAction, default={})
    return load_config(str(config), parser.parse_args(['-o', *options]).o)


class Training:
    """A run of the pair: its config, options and work dir.

    Args:
        config: Config of the experiment or its control.
        args: Arguments of the command.
        work_dir: Work dir; None for ``WORK_DIRS/STATE/NAME``.
        factor: Length of the run, relative to ``--length``.
    """

    def __init__(
        self,
        config: Path,
        args: argparse.Namespace,
        work_dir: Path | None = None,
        factor: float = 1.0,
    ) -> None:
        self.config = config
        own = args.work_dirs / config.parent.name / config.stem
        self.work_dir = work_dir or own
        options = list(args.cfg_options)
        if args.engine and config == args.config:
            options.append(f'default_hooks.engine.type={ENGINE}')
        for share in (args.length, factor):
            if share != 1:
                stretched = stretch(load(config, options), share)
                options += [
                    f'{key}={value}'.replace(' ', '')
                    for key, value in stretched.items()
                ]
        self.args = argparse.Namespace(**vars(args) | {'cfg_options': options})
        self.cfg = load(config, options)
        self.unit, self.length = length_of(self.cfg)
        self._done = self.work_dir / '.trained'

    def __str__(self) -> str:
        unit = self.unit.replace('max_iters', 'steps').replace('max_', '')
        return f'train {self.work_dir}, {self.length:,} {unit}'

    @property
    def is_done(self) -> bool:
        """Whether the run has been trained and evaluated."""
        return self._done.is_file()

    def __call__(self) -> None:
        """Train and evaluate, or resume and complete an interrupted run.

        Raises:
            ValueError: If the work dir has a run of another length or with
                other options.
        """
        before = self.work_dir / self.config.name
        if before.is_file():
            had = None
            with contextlib.suppress(ValueError):  # the text is not executed
                text = before.read_text(errors='replace')
                had = length_of(Config(read_plain_config(text)))
            if had and had != (self.unit, self.length):
                raise ValueError(
                    f'{self.work_dir} must hold a run of {self.length} '
                    f'{self.unit}, got one of {had[1]} {had[0]}. Remove it, '
                    'or choose another folder with --work-dirs.'
                )
        file = self.work_dir / '.options'
        options = shlex.join(self.args.cfg_options)
        earlier = file.read_text() if file.is_file() else options
        if earlier != options:
            raise ValueError(
                f'{self.work_dir} must hold a run with the options '
                f'{options or "(none)"}, got one with '
                f'{earlier or "(none)"}. Remove it, or choose another folder '
                'with --work-dirs.'
            )
        write_text(file, options)
        self._train()

    def _train(self) -> None:
        config, work_dir = self.config, self.work_dir
        if self.is_done:
            print(
                f'{config}: already trained, see {work_dir}', file=sys.stderr
            )
            return
        last_checkpoint(work_dir)  # check the checkpoint to resume from
        run_mim('train', config, work_dir, self.args, '--resume')
        if not read_run(work_dir).metrics:  # the evaluation was interrupted
            last = str(last_checkpoint(work_dir))
            run_mim('test', config, work_dir, self.args, '--checkpoint', last)
        self._done.touch()


def time_steps(
    folder: Path, runs: list[Training], args: argparse.Namespace
) -> StepsInTurn:
    """Time steps of both models in turn, or read the recorded times.

    Raises:
        ValueError: If a run has no checkpoint, or a model fails to train.
    """
    times = STEPS_IN_TURN.read(folder)
    if times is None:
        found = [last_checkpoint(run.work_dir) for run in runs]
        if None in found:
            raise ValueError(
                'Both runs must have a checkpoint to be timed, got '
                f'{runs[found.index(None)].work_dir} without one. Skip the '
                'timing with --in-turn 0.'
            )
        try:
            times = measure_in_turn(
                [run.cfg for run in runs],
                found,
                num_pairs=args.in_turn,
                engine=args.engine,
            )
        except Exception as error:  # from a model, a loader or a device
            raise ValueError(
                'Both models must step in one process to be timed, got '
                f'{one_line(error)}. Correct it, or skip the timing with '
                '--in-turn 0.'
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        STEPS_IN_TURN.write(folder, times)
    return times


def run(args: argparse.Namespace, control: Path) -> None:
    """Train both runs, time their steps, compare them and write the page.

    Raises:
        subprocess.CalledProcessError: If a training fails.
        OSError: If a file cannot be read or written.
        ValueError: If a file does not have the expected content.
    """
    name = f'{args.config.stem}-{args.control}'
    folder = args.work_dirs / 'pairs' / name
    progress = Progress(2 + bool(args.in_turn) + args.equal_time)
    runs = [Training(config, args) for config in (args.config, control)]
    for training in runs:
        progress.begin(training, is_done=training.is_done)
        training()
    times = longer = None
    if args.in_turn:
        progress.begin(
            f'time {args.in_turn} steps of each in turn',
            is_done=(folder / STEPS_IN_TURN.name).is_file(),
        )
        times = time_steps(folder, runs, args)
    if args.equal_time and times:
        more = Training(
            args.config, args, folder / 'equal_time', 1 / times.ratio.median
        )
        if more.length == runs[0].length:  # equal when rounded
            more = runs[0]
        progress.begin(more, is_done=more.is_done)
        more()
        longer = more.work_dir
    pair = compare_pair(runs[0].work_dir, runs[1].work_dir, longer, times)
    written = write_pair_page(folder, pair)
    console = PlainConsole()
    for table in make_tables(pair):
        console.print(draw_table(table))
    for text in describe(pair):
        console.print(text, style='dim')
    for path in written:
        print(path)


def main() -> int:
    args = parse_args()
    control = config_in_state(args.config, args.control)
    for config in (args.config, control):
        if not config.is_file():
            print(
                'error: CONFIG and its control must exist, got '
                f'{str(config)!r}, which does not. Give a file of '
                'configs/frozen/.',
                file=sys.stderr,
            )
            return 2
    return report_failure(lambda: run(args, control), refused=1)
