"""List all experiments of the config pack with parameters, FLOPs and AP.

FLOPs are those of one training step per image: forward and backward, 2 per
multiply-add. Counting them all takes two minutes; without --flops they are
read from FOLDER/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from mmengine.logging import MMLogger
from rich.table import Table

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.atomic_write import write_text
from mmfrozen.reports.experiments import (
    BEGIN,
    END,
    HEADS,
    count_flops,
    find_experiments,
    list_experiments,
    markdown,
    read_flops,
    row,
)
from mmfrozen.reports.marked_text import replace_between

from . import make_parser, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 done, 1 README.md is out of date, 2 invalid input

examples:
  mmfrozen experiments configs --check
  mmfrozen experiments configs --flops --write
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        'folder',
        metavar='FOLDER',
        type=Path,
        help='folder of the pack, with frozen/, finetuned/ and README.md',
    )
    parser.add_argument(
        '--flops', action='store_true', help='count the FLOPs again'
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--write',
        action='store_true',
        help='replace the table in FOLDER/README.md',
    )
    what.add_argument(
        '--check',
        action='store_true',
        help='compare with the table in FOLDER/README.md',
    )
    return parser.parse_args()


def run(args: argparse.Namespace, console: PlainConsole) -> int:
    """Measure the experiments, then print, write or compare their table.

    Returns:
        The exit status.
    """
    readme = args.folder / 'README.md'
    if not args.folder.is_dir():
        raise FileNotFoundError(
            f'FOLDER must be an existing folder, got {str(args.folder)!r}. '
            'Give the pack: configs.'
        )
    text = readme.read_text() if readme.is_file() else ''
    if (args.write or args.check) and not text:
        raise FileNotFoundError(
            f'FOLDER must have a README.md, got none in {str(args.folder)!r}. '
            'Remove --write and --check.'
        )
    with console.status('building') as status:
        if args.flops:
            paths = find_experiments(args.folder)
            flops = count_flops(paths, status.update)
        else:
            flops = read_flops(text)
        experiments = list_experiments(
            args.folder, flops=flops, report=status.update
        )
    if args.write or args.check:
        new = replace_between(readme, text, BEGIN, END, markdown(experiments))
        if args.check:
            if new == text:
                print(f'{readme} is up to date')
                return 0
            print(f'{readme} is out of date: run with --write')
            return 1
        write_text(readme, new)
        print(f'wrote {len(experiments)} experiments to {readme}')
        return 0
    table = Table(*HEADS)
    for experiment in experiments:
        table.add_row(*row(experiment))
    width = None if sys.stdout.isatty() else 160
    PlainConsole(width=width).print(table)
    return 0


def main() -> int:
    """Return 0 when done, 1 if README.md is out of date, 2 if refused."""
    args = parse_args()
    MMLogger.get_instance('mmengine').setLevel(logging.WARNING)
    try:
        return run(args, PlainConsole(stderr=True))
    except (OSError, ValueError) as error:
        print_line('error', error)
        return 2
