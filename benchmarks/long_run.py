"""Test whether memory, open files and step time grow in a long training.

Trains a config by `mim train` for many steps, with validation and checkpoints
in between, and records the process and its loader's workers every ten steps.
Prints the means of the first and the last quarter after the warm-up, and the
slope with Student's 95 % confidence interval over the means of blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from scipy import stats

from mmfrozen.schedule import stretch

EXAMPLES = """examples:
  python benchmarks/long_run.py configs/frozen/mask_rcnn_lite0_mini-lvis.py \\
      --steps 2000 --work-dir work_dirs/long_run
  python benchmarks/long_run.py ... --cfg-options \\
      default_hooks.engine.type=mmfrozen.FrozenEngineHook \\
      train_dataloader.num_workers=2 train_dataloader.persistent_workers=True
"""
RECORDED = """_base_ = [{base!r}]
custom_imports = dict(imports=['mmfrozen', 'benchmarks.long_run'])
default_hooks = dict(recorder=dict(type='ProcessRecorder'))
"""
BLOCKS = 20
WARM_UP = 0.25  # share of the steps, up to the end of the first validation
#: Printed name, and factor to the printed unit, by recorded key.
FIGURES = {
    'resident': ('resident memory, MiB', 2**-20),
    'files': ('open files', 1),
    'processes': ('processes', 1),
    'cpu': ('CPU of a step, ms', 1000),
    'wall': ('a step, ms', 1000),
}


@HOOKS.register_module()
class ProcessRecorder(Hook):
    """Hook that appends a line to WORK_DIR/processes.jsonl every ``interval``
    steps.

    The time of a step is measured from the end of one step to the end of the
    next. It includes loading, logging and checkpoints, but not validation.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.process = psutil.Process()

    def before_train(self, runner: Runner) -> None:
        self.path = Path(runner.work_dir, 'processes.jsonl')
        self._restart()

    def after_val(self, runner: Runner) -> None:
        self._restart()

    def after_train_iter(self, runner: Runner, *args: Any, **_: Any) -> None:
        self.steps += 1
        if not self.every_n_train_iters(runner, self.interval):
            return
        family = [self.process, *self.process.children(recursive=True)]
        line = dict(
            step=runner.iter + 1,
            resident=sum(p.memory_info().rss for p in family),
            files=sum(p.num_fds() for p in family),
            processes=len(family),
            cpu=(time.process_time() - self.cpu) / self.steps,
            wall=(time.perf_counter() - self.wall) / self.steps,
        )
        with open(self.path, 'a') as file:
            file.write(json.dumps(line) + '\n')
        self._restart()

    def _restart(self) -> None:
        self.steps = 0
        self.cpu, self.wall = time.process_time(), time.perf_counter()


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', type=Path)
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--cfg-options', nargs='*', default=[])
    return parser.parse_args()


def train(args: argparse.Namespace) -> None:
    """Train the config by mim, with the recorder as an additional hook."""
    cfg = Config.fromfile(args.config)
    options = stretch(cfg, args.steps / cfg.train_cfg.max_iters)
    options['train_cfg.val_interval'] = args.steps // 4
    args.work_dir.mkdir(parents=True)
    recorded = args.work_dir / 'recorded.py'
    recorded.write_text(RECORDED.format(base=str(args.config.resolve())))
    subprocess.run(
        [Path(sys.executable).with_name('mim'), 'train', 'mmdet', recorded]
        + ['--gpus', '0', '--work-dir', args.work_dir, '--cfg-options']
        + [f'{key}={value}' for key, value in options.items()]
        + args.cfg_options,
        env=dict(os.environ, PYTHONPATH=os.getcwd()),
        check=True,
    )


def print_slopes(path: Path) -> None:
    """Print the table of memory, files and step times of one run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [x for x in lines if x['step'] > WARM_UP * lines[-1]['step']]
    blocks = np.array_split(np.arange(len(lines)), BLOCKS)
    steps = np.array([line['step'] for line in lines])
    at = [steps[b].mean() for b in blocks]
    print('| | first quarter | last quarter | slope in 1,000 steps |')
    print('|---|---|---|---|')
    for key, (name, unit) in FIGURES.items():
        values = np.array([line[key] for line in lines]) * unit
        means = [values[b].mean() for b in blocks]
        fit = stats.linregress(at, means)
        slope = 1000 * fit.slope
        margin = (
            1000 * np.nan_to_num(fit.stderr) * stats.t.ppf(0.975, BLOCKS - 2)
        )
        quarter = BLOCKS // 4
        print(
            f'| {name} | {np.mean(means[:quarter]):.1f} '
            f'| {np.mean(means[-quarter:]):.1f} '
            f'| {slope:+.2f} ({slope - margin:+.2f} to {slope + margin:+.2f}) '
            '|'
        )


def main() -> None:
    """Train the config and print the table."""
    args = parse_args()
    train(args)
    print_slopes(args.work_dir / 'processes.jsonl')


if __name__ == '__main__':
    main()
