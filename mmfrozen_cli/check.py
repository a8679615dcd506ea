"""Check every annotation of a COCO or LVIS file, and optionally its images.

Prints the number of faults of each kind, with three examples. Errors lead to
wrong results or end a run; CheckedCocoDataset and the metrics refuse them
before training. Notes list what MMDetection drops silently, and what is
unusual.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.progress import track
from rich.table import Table

from . import make_parser, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 no errors, 1 errors found, 2 invalid input

examples:
  mmfrozen check data/mine/train.json data/mine/images
  mmfrozen check export.json --fix train.json
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add('ann', type=Path, metavar='ANN', help='annotation file')
    add(
        'images',
        type=Path,
        nargs='?',
        metavar='IMAGES',
        help='folder of the images; if given, all images are decoded',
    )
    add(
        '--fix',
        type=Path,
        metavar='OUT.json',
        help='write a corrected copy with safe changes only: ids given as '
        'text become numbers, repeated annotation ids are renumbered, missing '
        'areas are set to those of the boxes, backslashes become slashes, and '
        'annotations that cannot be used are removed',
    )
    add('--json', action='store_true', help='print JSON, not tables')
    add(
        '--threads',
        type=int,
        default=2 * (os.cpu_count() or 1),
        metavar='N',
        help='number of images decoded at a time (default: %(default)s)',
    )
    return parser.parse_args()


def show(found: Any, console: PlainConsole) -> None:
    """Print the kinds of faults with counts and examples."""
    console.print(
        ', '.join(f'{n:,} {name}' for name, n in found.numbers.items())
    )
    for title, counts in (('errors', found.errors), ('notes', found.notes)):
        if not counts:
            console.print(f'no {title}')
            continue
        table = Table(
            title=f'{counts.total():,} {title}', title_justify='left'
        )
        table.add_column('number', justify='right')
        table.add_column('kind')
        table.add_column('examples', overflow='fold')
        for kind, number in counts.most_common():
            examples = '\n'.join(found.examples[kind])
            table.add_row(f'{number:,}', kind, examples)
        console.print(table)


def run(args: argparse.Namespace) -> int:
    """Check the annotations, and repair them with --fix.

    Returns:
        The exit status.
    """
    from mmfrozen.atomic_write import atomic_path
    from mmfrozen.datasets.check import check, read, repair

    if args.threads < 1:
        raise ValueError(
            f'--threads must be 1 or more, got {args.threads}. Correct it.'
        )
    for name, path in (('ANN', args.ann), ('IMAGES', args.images)):
        exists = path is None or (
            path.is_file() if name == 'ANN' else path.is_dir()
        )
        if not exists:
            raise FileNotFoundError(
                f'{name} must be an existing '
                f'{"file" if name == "ANN" else "folder"}, got '
                f'{str(path)!r}. Correct the path.'
            )
    if args.fix is not None and (
        os.path.lexists(args.fix) or not args.fix.absolute().parent.is_dir()
    ):
        raise FileExistsError(
            '--fix must name a new file in a folder that exists, got '
            f'{str(args.fix)!r}. Choose another name.'
        )
    content = read(args.ann, pack=args.fix is None)
    err = PlainConsole(stderr=True)

    def progress(items: Iterable[Any], total: int) -> Iterable[Any]:
        return track(items, 'images', total=total, console=err)

    found = check(
        content, args.images, threads=args.threads, progress=progress
    )
    record: dict[str, Any] = dict(
        numbers=found.numbers,
        errors=found.errors,
        notes=found.notes,
        examples=found.examples,
    )
    if args.fix is not None:
        fixed, done = repair(content)
        with atomic_path(args.fix) as part, part.open('w') as stream:
            json.dump(fixed, stream)
        record['fixed'] = done
        left = check(fixed)
        record['errors_left'] = left.errors
    if args.json:
        print(json.dumps(record, indent=1))
    else:
        console = PlainConsole()
        show(found, console)
        if args.fix is not None:
            for what, number in done.items():
                console.print(f'{number:,} x {what}')
            print(
                f'wrote {args.fix}: {left.errors.total():,} errors are left'
                + ''.join(
                    f'\n  {n:,} {kind}' for kind, n in left.errors.items()
                )
            )
    return 1 if found.errors else 0


def main() -> int:
    """Return 0 without errors, 1 with some, 2 for invalid input."""
    args = parse_args()
    try:
        return run(args)
    except (OSError, ValueError) as error:
        print_line('error', error)
        return 2
