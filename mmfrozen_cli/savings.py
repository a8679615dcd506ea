"""Compute what freezing saves in a training step: FLOPs, memory, parameters.

Traces the training steps of a config and of its control on shapes alone,
without weights, data or GPU. Any config works, also MMDetection's
(mmdet::NAME). A config of frozen/ is compared with its control in finetuned/.
Any other config is frozen in memory and compared with itself, with every
stage trained. Two work dirs, of a frozen run and of its control, are compared
by the costs that the runs measured.

FLOPs count 2 per multiply-add. See docs/measuring.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

# building a model must not access the network
os.environ.setdefault('HF_HUB_OFFLINE', '1')

from rich.progress import track  # noqa: E402

from . import add_cfg_options, make_parser, print_line  # noqa: E402
from .console import PlainConsole, show_result  # noqa: E402

EXAMPLES = """exit status: 0 done, 1 a config of --all cannot be traced,
2 invalid input, or CONFIG cannot be traced

examples:
  mmfrozen savings configs/frozen/mask_rcnn_r101_lvis.py
  mmfrozen savings \\
      mmdet::retinanet/retinanet_r50_fpn_1x_coco.py as-written \\
      --dtype bf16 --memory 24GB --html savings.html
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'config',
        nargs='?',
        metavar='CONFIG',
        help='path of a config, mmdet::NAME, or a work dir',
    )
    add(
        'control',
        nargs='?',
        metavar='CONTROL',
        help='config or work dir to compare with; as-written compares CONFIG '
        'as it is with CONFIG frozen in memory (default: see above)',
    )
    add_workload(parser)
    add(
        '--memory',
        metavar='SIZE',
        help='find the largest batch that fits into this memory with 5 %% of '
        'its peak left free, such as 24GB (24e9 bytes) or 24GiB',
    )
    add('--macs', action='store_true', help='print multiply-adds, not FLOPs')
    add('--json', action='store_true', help='print JSON, not tables')
    add('--html', type=Path, metavar='FILE', help='also write an HTML page')
    add(
        '--ap',
        nargs=2,
        type=float,
        metavar=('FROZEN', 'CONTROL'),
        help='AP of both, for a chart of cost against AP in --html',
    )
    add(
        '--partial',
        action='store_true',
        help='if the forward pass cannot be traced to its end, compare the '
        'part before, and name the parts that are missing',
    )
    add('--all', action='store_true', help='trace every config of the pack')
    add_cfg_options(parser)
    args = parser.parse_args()
    if bool(args.config) == args.all:
        parser.error('give CONFIG, or --all')
    if args.all and (args.html or args.memory or args.ap or args.partial):
        parser.error('--html, --memory, --ap and --partial take one CONFIG')
    if args.all and args.cfg_options:
        parser.error('--cfg-options takes one CONFIG')
    if args.memory and args.partial:
        parser.error('--memory needs a whole step, so it excludes --partial')
    if args.ap and not args.html:
        parser.error('--ap needs --html, since it is drawn there')
    return args


def add_workload(parser: argparse.ArgumentParser) -> None:
    """Add the options for the batch of a step."""
    add = parser.add_argument
    add(
        '--shape',
        nargs=2,
        type=int_at_least(1),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images (default: that of the train pipeline)',
    )
    add(
        '--batch-size',
        type=int_at_least(1),
        metavar='N',
        help="images per step (default: the train dataloader's)",
    )
    add(
        '--dtype',
        choices=('fp32', 'bf16', 'fp16'),
        help="dtype of autocast (default: the optimizer wrapper's)",
    )
    add(
        '--objects',
        type=int_at_least(1),
        default=8,
        metavar='N',
        help='annotated objects per image (default: 8)',
    )
    add(
        '--rois',
        type=int_at_least(1),
        metavar='N',
        help="RoIs sampled per image (default: those of the config's sampler)",
    )
    add(
        '--positives',
        type=int_at_least(0),
        metavar='N',
        help='positive RoIs per image (default: as the sampler of the config)',
    )


def int_at_least(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers of at least ``least``."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(
                f'must be {least} or more, got {text}'
            )
        return int(text)

    return number


def read_work(args: argparse.Namespace, cfg: Any) -> Any:
    """Return the workload of a config's step, with the options applied."""
    from mmfrozen.tracing.workload import read_workload

    work = read_workload(
        cfg,
        shape=args.shape and tuple(args.shape),
        batch_size=args.batch_size,
        dtype=args.dtype,
    )
    return replace(
        work,
        objects=args.objects,
        rois=args.rois,
        positives=args.positives,
    )


def analyze_pair(
    args: argparse.Namespace, report: Callable[[str], None]
) -> Callable[[PlainConsole], int]:
    """Compare a config with its control; return a function that prints it."""
    from mmfrozen.cost.shape_mode import ShapeMode
    from mmfrozen.tracing import largest_batch
    from mmfrozen.tracing.pair import find_pair
    from mmfrozen.tracing.trace_pair import trace_pair

    memory = args.memory and largest_batch.parse_bytes(args.memory)
    if args.html:
        from mmfrozen.reports.page import check_new

        check_new(args.html)
    pair = find_pair(args.config, args.control, args.cfg_options)
    work = read_work(args, pair[0].cfg)
    mode = ShapeMode()
    savings = trace_pair(
        pair, work, partial=args.partial, report=report, mode=mode
    )
    batches = []
    if memory:
        batches = largest_batch.find_both(
            pair, savings, memory, mode=mode, report=report
        )
    if args.html:
        from mmfrozen.reports.savings.page import write_report

        write_report(
            args.html,
            savings,
            macs=args.macs,
            memory_bytes=memory,
            batches=batches,
            ap=args.ap and tuple(args.ap),
        )
    return partial(print_pair, args, savings, batches)


def print_pair(
    args: argparse.Namespace,
    savings: Any,
    batches: list[Any],
    console: PlainConsole,
) -> int:
    """Print the tables of a pair, or its record; return the exit status."""
    from mmfrozen.reports.savings import tables
    from mmfrozen.reports.savings.comparison import to_record

    if args.json:
        record = to_record(savings)
        record['largest_batches'] = [asdict(batch) for batch in batches]
        print(json.dumps(record, indent=1))
        return 0
    for line in tables.condition_lines(savings):
        console.print(line, soft_wrap=True)
    for table in tables.draw_all(savings, args.macs):
        console.print(table)
    if batches:
        console.print(tables.draw_batches(batches, args.memory))
    console.print(tables.describe_uncounted(savings), soft_wrap=True)
    return 0


def analyze_pack(
    args: argparse.Namespace, errors: PlainConsole
) -> Callable[[PlainConsole], int]:
    """Compare every experiment of the pack with its control.

    Returns:
        A function that prints the result.
    """
    from mmfrozen.config_path import ROOT
    from mmfrozen.reports.savings.all_configs import trace_pack

    configs = sorted((ROOT / 'frozen').glob('*.py'))
    entries = list(
        track(
            trace_pack(configs, partial(read_work, args), os.cpu_count() or 1),
            'configs',
            total=len(configs),
            console=errors,
        )
    )
    return partial(print_pack, args, entries)


def print_pack(
    args: argparse.Namespace, entries: list[Any], console: PlainConsole
) -> int:
    """Print one line per experiment; return the exit status."""
    from mmfrozen.reports.savings import all_configs as pack
    from mmfrozen.reports.savings.tables import draw, unit_name

    failed = [entry for entry in entries if entry.error]
    if args.json:
        print(json.dumps([pack.entry_record(e) for e in entries]))
    else:
        rows = [pack.pack_row(entry, args.macs) for entry in entries]
        title = f'A training step, {unit_name(args.macs)}: control -> frozen'
        console.print(draw(title, pack.pack_head(args.macs), rows, 0))
    for entry in failed:
        print_line('error', f'{entry.name}: {entry.error}')
    return 1 if failed else 0


def analyze_runs(args: argparse.Namespace) -> Callable[[PlainConsole], int]:
    """Compare two work dirs by the costs that their runs measured.

    Returns:
        A function that prints the result.
    """
    from mmfrozen.reports.runs.costs import compare_work_dirs, comparison_table

    if not (args.control and Path(args.control).is_dir()):
        raise FileNotFoundError(
            f'CONTROL must be a work dir where CONFIG is one, got '
            f'{args.control!r}. Give the work dir of the control.'
        )
    for name in ('html', 'memory', 'macs', 'ap', 'partial', 'cfg-options'):
        if getattr(args, name.replace('-', '_')):
            raise ValueError(
                f'--{name} must be used with configs, got two work dirs. '
                'Remove it; mmfrozen compare draws runs.'
            )
    comparison = compare_work_dirs(Path(args.config), Path(args.control))

    def show(console: PlainConsole) -> int:
        if args.json:
            print(json.dumps(asdict(comparison), indent=1, default=str))
        else:
            console.print(comparison_table(comparison))
        return 0

    return show


def main() -> int:
    """Return 0 when done, 1 if one of many failed, 2 for invalid input."""
    args = parse_args()

    def compute(errors: PlainConsole) -> Callable[[PlainConsole], int]:
        if args.all:
            return analyze_pack(args, errors)
        if Path(args.config).is_dir():
            return analyze_runs(args)
        with errors.status('reading the configs') as status:
            return analyze_pair(args, status.update)

    return show_result(compute)
