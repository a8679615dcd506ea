"""Predict the costs of the paper's main experiments without running them.

Traces a training step of each and of its control on shapes alone, and prints
a table for docs/full_scale.md: FLOPs of the whole schedule, GPU-hours at a
given speed, peak memory, and the largest batch that fits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmfrozen.cost.shape_mode import ShapeMode
from mmfrozen.tracing.largest_batch import find_both, parse_bytes
from mmfrozen.tracing.pair import find_pair
from mmfrozen.tracing.trace_pair import trace_pair
from mmfrozen.tracing.workload import read_workload

EXAMPLES = """examples:
  python benchmarks/full_scale.py configs/frozen/mask_rcnn_r101_lvis.py
  python benchmarks/full_scale.py configs/frozen/cascade_rcnn_rs101*_coco.py \\
      --dtype bf16 --teraflops 100 --memory 80GB
"""
#: Training images with annotations.
IMAGES = {'coco': 117_266, 'lvis': 99_388}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('configs', nargs='+', type=Path, metavar='CONFIG')
    parser.add_argument('--dtype', default='bf16')
    parser.add_argument(
        '--teraflops',
        type=float,
        default=100,
        help='that the GPU reaches in such a step (default: 100)',
    )
    parser.add_argument('--memory', default='80GB')
    return parser.parse_args()


def rows(config: Path, args: argparse.Namespace) -> Iterator[str]:
    """Yield a table row of the frozen config and one of its control."""
    pair = find_pair(str(config))
    work = read_workload(pair[0].cfg, dtype=args.dtype)
    mode = ShapeMode()
    savings = trace_pair(pair, work, mode=mode)
    memory = parse_bytes(args.memory)
    batches = find_both(pair, savings, memory, mode=mode)
    epochs = pair[0].cfg.train_cfg.max_epochs
    images = IMAGES[config.stem.rpartition('_')[2]] * epochs
    for state, side, batch in zip(
        ('frozen', 'fine-tuned'), savings.sides, batches, strict=True
    ):
        flops = side.step.total.flops.total / work.batch_size * images
        hours = flops / (args.teraflops * 1e12) / 3600
        yield (
            f'| `{config.stem}` | {state} | {epochs} | {flops / 1e18:.1f} '
            f'| {hours:,.0f} | {work.batch_size} '
            f'| {side.step.peak_bytes / 2**30:.1f} | {batch.batch_size} |'
        )


def main() -> None:
    """Print the table."""
    args = parse_args()
    print(
        f'| {args.dtype} | | epochs | EFLOPs in all | GPU-hours at '
        f'{args.teraflops:g} TFLOP/s | images per GPU | peak, GiB '
        f'| largest batch in {args.memory} |'
    )
    print('|---|---|---|---|---|---|---|---|')
    for config in args.configs:
        for row in rows(config, args):
            print(row, flush=True)


if __name__ == '__main__':
    main()
