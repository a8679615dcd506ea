"""Freeze the backbone of any MMDetection config, and write its control.

Without --out the frozen config is printed. With --out it is written to that
file, and its control beside it as NAME_finetuned.py, or into ../finetuned/ if
the folder is called frozen. Both files are loaded and their models built
before the command reports success. Several configs, or --zoo, are only
tested: a table shows how many can be frozen, and why the others cannot. With
--fast the config also uses batched heads (docs/fast_step.md), with --reliable
the loops and hooks of docs/reliability.md. Notes list the parts that stay
unchanged.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
from pathlib import Path
from typing import Any

# building a model must not access the network
os.environ.setdefault('HF_HUB_OFFLINE', '1')

from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from mmfrozen.atomic_write import write_text  # noqa: E402
from mmfrozen.config_file import ZOO, locate  # noqa: E402
from mmfrozen.freeze_config import (  # noqa: E402
    CannotFreezeError,
    Result,
    control_path,
    freeze_config,
)

from . import make_parser, print_error, print_line  # noqa: E402
from .console import PlainConsole  # noqa: E402

EXAMPLES = """exit status: 0 done, 1 a config cannot be frozen, 2 invalid input

examples:
  mmfrozen freeze mmdet::retinanet/retinanet_r50_fpn_1x_coco.py
  mmfrozen freeze my_workspace/configs/my_swin.py \\
      --out my_workspace/configs/frozen/my_swin.py --fast
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'configs',
        nargs='*',
        metavar='CONFIG',
        help='path of a config, or mmdet::NAME',
    )
    add(
        '--out',
        type=Path,
        metavar='X.py',
        help='write the frozen config to this file instead of printing it',
    )
    add('--fast', action='store_true', help='use batched heads where possible')
    add(
        '--reliable',
        action='store_true',
        help='add loops and hooks that handle kills, full disks, NaN and '
        'misspelt keys',
    )
    add('--force', action='store_true', help='replace existing files')
    add('--zoo', action='store_true', help='test all configs of MMDetection')
    add(
        '--json',
        type=Path,
        metavar='FILE',
        help='also write the results of several configs as JSON',
    )
    args = parser.parse_args()
    if bool(args.configs) == args.zoo:
        parser.error('give one CONFIG, several of them, or --zoo')
    many = args.zoo or len(args.configs) > 1
    if many and args.out:
        parser.error('--out takes one CONFIG')
    if args.json and not many:
        parser.error('--json takes several CONFIGs or --zoo')
    if args.out and args.out.suffix != '.py':
        parser.error(f'--out must name a .py file, got {args.out}')
    return args


def say(result: Result) -> None:
    """Print how each backbone is frozen, with notes and warnings."""
    err = PlainConsole(stderr=True, soft_wrap=True)
    for one in result.plan.backbones:
        if one.stages is not None:
            err.print(
                f'{one.path}: {one.name} is frozen by frozen_stages='
                f'{one.stages} and norm_eval=True'
            )
        else:
            err.print(
                f'{one.path}: the options of {one.name} do not freeze all of '
                'it, so FrozenBackbone builds and freezes it'
            )
    for note in result.notes:
        err.print(f'note: {note}')
    for warning in result.warnings:
        err.print(f'warning: {warning}')


def convert(args: argparse.Namespace) -> None:
    """Freeze one config; print it, or write it with its control."""
    source = locate(args.configs[0])
    if args.out:
        taken = [p for p in (args.out, control_path(args.out)) if p.exists()]
        if taken and not args.force:
            raise FileExistsError(
                f'--out must not exist yet, got {taken[0]}. Choose '
                'another name or give --force.'
            )
        if source in (args.out.resolve(), control_path(args.out).resolve()):
            raise FileExistsError(
                f'--out must be another file than CONFIG, got {args.out}. '
                'Choose another name.'
            )
    out = args.out and args.out.parent.resolve() / args.out.name
    result = freeze_config(source, out, fast=args.fast, reliable=args.reliable)
    say(result)
    if not args.out:
        print(result.frozen, end='')
        return
    print(f'frozen     {args.out}')
    print(f'finetuned  {control_path(args.out)}')
    if result.counts:
        total, trainable = result.counts.total, result.counts.trainable
        print(f'parameters {total:,}')
        print(f'trainable  {trainable:,} ({trainable / total:.1%})')


def try_one(source: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Freeze one of several configs; return a record of the outcome."""
    record: dict[str, Any] = {'config': str(source)}
    if source.is_relative_to(ZOO):
        record['config'] = source.relative_to(ZOO).as_posix()
    try:
        result = freeze_config(source, fast=args.fast, reliable=args.reliable)
    except CannotFreezeError as error:
        return {**record, 'error': str(error)}
    return {
        **record,
        'backbones': [
            {'path': one.path, 'type': one.name, 'stages': one.stages}
            for one in result.plan.backbones
        ],
        'total': result.counts and result.counts.total,
        'trainable': result.counts and result.counts.trainable,
        'notes': result.notes,
        'warnings': result.warnings,
    }


def try_all(args: argparse.Namespace) -> int:
    """Test several configs and print the table; return the exit status."""
    logging.disable(logging.WARNING)
    sources = (
        [p for p in sorted(ZOO.rglob('*.py')) if '_base_' not in p.parts]
        if args.zoo
        else [locate(config) for config in args.configs]
    )
    progress = track(sources, 'configs', console=PlainConsole(stderr=True))
    records = [try_one(source, args) for source in progress]
    good = [r for r in records if 'error' not in r]
    table = Table(title=f'{len(good)} of {len(records)} configs can be frozen')
    table.add_column('configs', justify='right')
    table.add_column('outcome')
    ways = collections.Counter(
        f'{one["type"]}: '
        + ('FrozenBackbone' if one['stages'] is None else 'its own keys')
        for r in good
        for one in r['backbones']
    )
    reasons = collections.Counter(r['error'] for r in records if 'error' in r)
    for counter in (ways, reasons):
        for what, count in counter.most_common():
            table.add_row(str(count), what)
        table.add_section()
    PlainConsole().print(table)
    if args.json:
        write_text(args.json, json.dumps(records, indent=1) + '\n')
    return 0 if len(good) == len(records) else 1


def main() -> int:
    """Return 0 when done, 1 if a config cannot be frozen, 2 if refused."""
    args = parse_args()
    try:
        if args.zoo or len(args.configs) > 1:
            return try_all(args)
        convert(args)
    except CannotFreezeError as error:
        print_error(error)
        return 1
    except OSError as error:
        print_line('error', error)
        return 2
    return 0
