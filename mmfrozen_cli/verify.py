"""Check that a checkpoint's backbone is bitwise equal to its classifier."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import asdict

from rich.table import Table

import mmfrozen  # noqa: F401  (safe loading, registered backbones)
from mmfrozen.reports.verify import verify
from mmfrozen.run_files import Verification

from . import make_parser, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 bitwise equal, 1 changed tensors, 2 invalid input

examples:
  mmfrozen verify \\
      work_dirs/mask_rcnn_lite0_mini-lvis/iter_300.pth
  mmfrozen verify work_dirs/mask_rcnn_r101_lvis/epoch_72.pth \\
      --against resnet101-63fe2227.pth --json
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        'checkpoint', metavar='CHECKPOINT', help='.pth file of a run'
    )
    parser.add_argument(
        '--against',
        metavar='WEIGHTS',
        help="the classifier's weights, .pth or .safetensors (default: those "
        'named in the config that the checkpoint holds)',
    )
    parser.add_argument(
        '--json', action='store_true', help='print JSON, not a table'
    )
    return parser.parse_args()


def draw(result: Verification) -> Table:
    """Draw a table with one row per stage."""
    table = Table('stage', title=f'{result.checkpoint}\n{result.classifier}')
    for name in ('tensors', 'changed', 'relative L2', 'cosine', 'statistics'):
        table.add_column(name, justify='right')
    for stage, drift in result.stages.items():
        if stage == 'all':
            table.add_section()
        table.add_row(
            stage,
            str(drift.num_tensors),
            str(drift.num_changed),
            number(drift.relative_l2),
            number(drift.cosine, '.6f'),
            number(drift.statistics_relative_l2),
        )
    return table


def number(value: float | None, form: str = '.3g') -> str:
    """Format a number; ``-`` for None."""
    return '-' if value is None else format(value, form)


def summary_line(result: Verification) -> str:
    """Return the result in one line."""
    total = result.stages['all'].num_tensors
    if not result.changed:
        return f'bitwise equal: all {total} tensors of the backbone'
    return (
        f'changed: {len(result.changed)} of {total} tensors, the first is '
        f'{result.changed[0]}'
    )


def main() -> int:
    """Return 0 when equal, 1 for changed tensors, 2 for invalid input."""
    args = parse_args()
    errors = PlainConsole(stderr=True)
    try:
        # keep MMDetection's messages out of standard output
        with (
            contextlib.redirect_stdout(sys.stderr),
            errors.status('...') as status,
        ):
            result = verify(args.checkpoint, args.against, status.update)
    except (ValueError, OSError) as error:
        print_line('error', error)
        return 2
    if args.json:
        print(json.dumps(asdict(result), indent=2))
    else:
        console = PlainConsole()
        console.print(draw(result))
        console.print(summary_line(result), soft_wrap=True)
    return 1 if result.changed else 0
