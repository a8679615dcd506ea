"""Compare runs side by side: costs, AP, learning curves and drift."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from mmfrozen.reports.page import check_empty, check_new
from mmfrozen.reports.runs.comparison import (
    ComparedRun,
    Pair,
    find_pairs,
    read_runs,
)
from mmfrozen.reports.runs.page import (
    draw_charts,
    write_compare_page,
    write_pictures,
)
from mmfrozen.reports.runs.record import RunsRecord, summarise
from mmfrozen.reports.runs.tables import make_tables, short_names
from mmfrozen.reports.text_table import draw_table, markdown
from mmfrozen.run_files import replace_non_finite

from . import make_parser, plain, print_line
from .console import PlainConsole

EXAMPLES = """Runs are paired by the name of their config: a frozen run with
each fine-tuned run and each run from scratch, and with those of the same seed
if there are several seeds. --pair sets pairs explicitly. docs/runs.md
describes the files of a work dir.

exit status: 0 done, 2 invalid input

examples:
  mmfrozen compare work_dirs/*/mask_rcnn_r101_lvis \\
      --html runs.html --png pictures
  mmfrozen compare mine/a mine/b --pair mine/a mine/b --json
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        'runs', metavar='RUN', nargs='+', type=Path, help='work dir of a run'
    )
    parser.add_argument(
        '--pair',
        nargs=2,
        action='append',
        default=[],
        type=Path,
        metavar=('FROZEN', 'CONTROL'),
        help='compare these two of the runs; may be repeated, and replaces '
        'the pairing by name',
    )
    parser.add_argument(
        '--html', type=Path, metavar='REPORT', help='write an HTML page'
    )
    parser.add_argument(
        '--png',
        type=Path,
        metavar='FOLDER',
        help='write the figures of the page as PNG files',
    )
    parser.add_argument(
        '--markdown', action='store_true', help='print tables as Markdown'
    )
    parser.add_argument(
        '--json', action='store_true', help='print JSON, not tables'
    )
    return parser.parse_args()


def choose_pairs(
    args: argparse.Namespace, runs: list[ComparedRun]
) -> list[Pair]:
    """Return the pairs named by --pair, else pairs found by config name."""
    if not args.pair:
        return find_pairs(runs)
    known = {Path(run.path).resolve(): run for run in runs}
    for path in (path for pair in args.pair for path in pair):
        if path.resolve() not in known:
            raise ValueError(
                f'--pair must name two of the runs, got {str(path)!r}. Name '
                'it as a RUN, too.'
            )
    return [Pair(known[a.resolve()], known[b.resolve()]) for a, b in args.pair]


def run(args: argparse.Namespace, messages: PlainConsole) -> RunsRecord:
    """Read and compare the runs, and write the requested files."""
    if args.html:
        check_new(args.html)
    if args.png:
        check_empty(args.png)
    with messages.status('reading the runs'):
        runs = read_runs(args.runs)
        pairs = choose_pairs(args, runs)
        record = summarise(runs, pairs)
    if args.html or args.png:
        with messages.status('drawing'):
            charts = draw_charts(runs, pairs)
            if args.html:
                write_compare_page(args.html, record, charts)
            if args.png:
                write_pictures(args.png, charts)
    return record


def show(record: RunsRecord, *, as_markdown: bool) -> None:
    """Print tables; long names are replaced by numbers, with a legend."""
    console = PlainConsole()
    names = short_names(record)
    for label, name in names.items():
        if name != label:
            console.print(f'{name:>3}  {label}')
    for table in make_tables(record, names):
        if as_markdown:
            print(plain(markdown(table), keep='\n'))
        else:
            console.print(draw_table(table))


def main() -> int:
    """Return 0 when done, 2 for invalid input."""
    args = parse_args()
    messages = PlainConsole(stderr=True)
    try:
        record = run(args, messages)
    except (ValueError, OSError) as error:
        print_line('error', error)
        return 2
    for note in record.notes:
        print_line('note', note)
    if args.json:
        print(json.dumps(replace_non_finite(asdict(record)), indent=2))
    else:
        show(record, as_markdown=args.markdown)
    for path in (args.html, args.png):
        if path:
            messages.print(f'wrote {path}')
    return 0
