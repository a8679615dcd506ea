"""Compare the AP of a run with that of its control, by class and by strata.

Strata are groups of classes by frequency and by number of training
annotations, and groups of objects by size. See docs/strata.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import track

from mmfrozen.reports.page import check_empty, check_new
from mmfrozen.reports.strata.captions import summary_line
from mmfrozen.reports.strata.comparison import Comparison, Request, compare
from mmfrozen.reports.strata.example_images import Example, Examples
from mmfrozen.reports.strata.gate import WATCHED, check_watched, failures
from mmfrozen.reports.strata.page import (
    NO_DETECTIONS,
    NO_IMAGES,
    write_strata_page,
)
from mmfrozen.reports.strata.pictures import draw_examples, write_pictures
from mmfrozen.reports.strata.tables import bin_table, class_table, error_table
from mmfrozen.run_files import replace_non_finite

from . import make_parser, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 done, 1 by --fail-below, 2 invalid input

examples:
  mmfrozen strata work_dirs/frozen/mask_rcnn_r101_lvis \\
      work_dirs/finetuned/mask_rcnn_r101_lvis \\
      --ann data/lvis_v1/annotations/lvis_v1_val.json \\
      --train-ann data/lvis_v1/annotations/lvis_v1_train.json \\
      --iou-type segm --html strata.html
  mmfrozen strata new.bbox.json old.bbox.json --ann val.json \\
      --train-ann train.json --json --fail-below APr > strata.json
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    default = Request(Path(), None, Path(), None)
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add(
        'run',
        metavar='RUN_OR_RESULTS',
        type=Path,
        help='results.pkl of mmdet, results as JSON in the format of COCO or '
        'LVIS, or a work dir',
    )
    add(
        'control',
        metavar='CONTROL',
        type=Path,
        nargs='?',
        help='results of the control (default: show RUN_OR_RESULTS alone)',
    )
    add(
        '--ann',
        type=Path,
        required=True,
        metavar='VAL',
        help='annotation file that the runs were evaluated on',
    )
    add(
        '--train-ann',
        type=Path,
        metavar='TRAIN',
        help='annotation file in which annotations are counted (default: the '
        'counts that an LVIS file states)',
    )
    add(
        '--config',
        type=Path,
        metavar='CONFIG',
        help='config of the detectors, which names the classes of the labels '
        'in a results.pkl (default: the config in a work dir, else all '
        'classes of VAL)',
    )
    add(
        '--iou-type',
        choices=('bbox', 'segm'),
        default=default.iou_type,
        help='AP of boxes or of masks (default: %(default)s)',
    )
    add(
        '--protocol',
        choices=('coco', 'lvis'),
        help='rules of evaluation (default: lvis if VAL lists absent '
        'categories, else coco)',
    )
    add(
        '--resamples',
        type=int,
        default=default.num_resamples,
        metavar='N',
        help='resamples of the images for the intervals; 0 for none (default: '
        f'{default.num_resamples})',
    )
    add(
        '--seed',
        type=int,
        default=default.seed,
        metavar='N',
        help='seed of the resamples (default: %(default)s)',
    )
    add(
        '--min-images',
        type=int,
        default=default.min_images,
        metavar='N',
        help='rank classes that are in at least this many images (default: '
        f'{default.min_images})',
    )
    add(
        '--fail-below',
        choices=tuple(WATCHED),
        action='append',
        default=[],
        help='exit with status 1 if this figure of the run is below the '
        'interval of the control; may be repeated',
    )
    add('--json', action='store_true', help='print JSON, not tables')
    add('--html', type=Path, metavar='REPORT', help='write an HTML page')
    add(
        '--png',
        type=Path,
        metavar='FOLDER',
        help='write the figures of the page as PNG files',
    )
    add(
        '--images',
        type=Path,
        metavar='IMAGE_ROOT',
        help='folder of the images of VAL, for the examples (default: found '
        'beside VAL)',
    )
    return parser.parse_args()


def run(args: argparse.Namespace, console: PlainConsole) -> Comparison:
    """Compare the runs, and write the requested files."""
    check_watched(
        args.fail_below,
        has_control=args.control is not None,
        num_resamples=args.resamples,
    )
    if args.html:
        check_new(args.html)
    if args.png:
        check_empty(args.png)
    request = Request(
        run=args.run,
        control=args.control,
        ann=args.ann,
        train_ann=args.train_ann,
        iou_type=args.iou_type,
        protocol=args.protocol,
        num_resamples=args.resamples,
        seed=args.seed,
        min_images=args.min_images,
        images=args.images,
        config=args.config,
    )
    with console.status('...') as status:

        def follow(steps: Any) -> Any:
            status.stop()
            yield from track(steps, 'resampling images', console=console)
            status.start()

        found = compare(request, status.update, follow)
    if args.html or args.png:
        examples, why = draw_example_images(args, found, console)
        if args.html:
            write_strata_page(
                args.html, found.gain, examples, why_no_examples=why
            )
        if args.png:
            write_pictures(args.png, found.gain, examples)
    return found


def draw_example_images(
    args: argparse.Namespace, found: Comparison, console: PlainConsole
) -> tuple[dict[int, Example], str]:
    """Draw the example images.

    Returns:
        Examples by category id, and a sentence to show if there are none.
    """
    if not found.detections:
        return {}, NO_DETECTIONS
    if found.files is None:
        return {}, NO_IMAGES
    examples = Examples(
        found.annotations.ground_truth,
        found.detections,
        files=found.files,
        has_masks=args.iou_type == 'segm',
    )

    def follow(rows: Any) -> Any:
        return track(rows, 'drawing examples', console=console)

    return draw_examples(found.gain, examples, follow), NO_IMAGES


def main() -> int:
    """Return 0 when done, 1 for --fail-below, 2 for invalid input."""
    args = parse_args()
    messages = PlainConsole(stderr=True)
    try:
        found = run(args, messages)
        fallen = failures(found.gain, args.fail_below)
    except (ValueError, OSError) as error:
        print_line('error', error)
        return 2
    for source in found.gain.sources:
        messages.print(f'read {source}', soft_wrap=True)
    for note in found.gain.notes:
        print_line('note', note)
    if args.json:
        print(json.dumps(replace_non_finite(asdict(found.gain)), indent=2))
    else:
        console = PlainConsole()
        console.print(bin_table(found.gain), class_table(found.gain))
        if found.gain.errors:
            console.print(error_table(found.gain))
        console.print(summary_line(found.gain), soft_wrap=True)
    for path in (args.html, args.png):
        if path:
            messages.print(f'wrote {path}', soft_wrap=True)
    for line in fallen:
        print_line('failed', line)
    return 1 if fallen else 0
