"""Compare the time of analyze_savings.py with that of real training steps.

For each given config: seconds of a new process, including imports, and of
tracing the pair in this process; with --real also of one real step of both
models on the CPU at the same size, and how many times the tool is faster.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.table import Table

import mmfrozen  # noqa: F401
from mmfrozen.tracing.fake_targets import make_samples
from mmfrozen.tracing.pair import Variant, apply_change, find_pair
from mmfrozen.tracing.trace_pair import trace_pair
from mmfrozen.tracing.workload import Workload, read_workload

EXAMPLES = """examples:
  python benchmarks/savings.py configs/frozen/mask_rcnn_r101_lvis.py
  python benchmarks/savings.py configs/frozen/faster_rcnn_rs101_coco.py \\
      --batch-size 1 --real
"""
TOOL = Path(__file__).parents[1] / 'tools' / 'analyze_savings.py'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument('--batch-size', type=int, default=None)
    parser.add_argument(
        '--real', action='store_true', help='real steps, too: gigabytes'
    )
    return parser.parse_args()


def time_process(*command: str) -> float:
    """Return the seconds of a process from start to end."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def time_real_step(side: Variant, work: Workload) -> float:
    """Return the seconds of forward and backward pass with data on the CPU."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(side.cfg.model.deepcopy())
    model.train()
    apply_change(model, side.change)
    images = torch.randn(work.batch_size, 3, *work.shape)
    samples = make_samples(
        work.batch_size, work.shape, objects=work.objects, num_classes=2
    )
    start = time.perf_counter()
    losses = model(images, samples, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    return time.perf_counter() - start


def main() -> None:
    """Print one line per config."""
    args = parse_args()
    imports = time_process('-c', 'import mmfrozen')
    table = Table('config', title=f'imports alone: {imports:.1f} s')
    for head in ('fresh process, s', 'tracing, s', 'real steps, s', 'ratio'):
        table.add_column(head, justify='right')
    for config in args.configs:
        options = []
        if args.batch_size:
            options = ['--batch-size', str(args.batch_size)]
        fresh = time_process(str(TOOL), config, '--json', *options)
        pair = find_pair(config)
        work = read_workload(pair[0].cfg, batch_size=args.batch_size)
        start = time.perf_counter()
        trace_pair(pair, work)
        traced = time.perf_counter() - start
        cells = [Path(config).stem, f'{fresh:.1f}', f'{traced:.1f}', '-', '-']
        if args.real:
            real = sum(time_real_step(side, work) for side in pair)
            cells[3:] = f'{real:.1f}', f'{real / fresh:.1f} x'
        table.add_row(*cells)
    Console().print(table)


if __name__ == '__main__':
    main()
