"""Write mini-LVIS, a small long-tailed data set in the layout of LVIS v1."""

import argparse
import signal
import sys
from pathlib import Path

import cv2
from rich.progress import track

from mmfrozen.atomic_write import WriteError, write_bytes
from mmfrozen.mini_lvis import Parameters, build, contact_sheet

from . import make_parser, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 done, 1 failed check, 2 invalid input

examples:
  mmfrozen mini-lvis --out data/lvis_v1
  mmfrozen mini-lvis --out /tmp/tiny --num-train 40 \\
      --num-val 20 --preview /tmp/tiny.png
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    default = Parameters()
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add('--out', type=Path, required=True, help='folder of the data set')
    add(
        '--num-train',
        type=int,
        default=default.num_train,
        metavar='N',
        help='number of training images (default: %(default)s)',
    )
    add(
        '--num-val',
        type=int,
        default=default.num_val,
        metavar='N',
        help='number of validation images (default: %(default)s)',
    )
    add(
        '--size',
        type=int,
        nargs=2,
        default=(default.height, default.width),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels (default: 256 256)',
    )
    add(
        '--seed',
        type=int,
        default=default.seed,
        metavar='N',
        help='seed of the images (default: %(default)s)',
    )
    add(
        '--force',
        action='store_true',
        help='replace a mini-LVIS of other parameters; any other content of '
        'the folder is refused',
    )
    add(
        '--preview',
        type=Path,
        metavar='FILE.png',
        help='also draw some images with their annotations',
    )
    return parser.parse_args()


def run(args: argparse.Namespace, console: PlainConsole) -> None:
    """Build the set and draw its preview."""
    preview = args.preview
    if preview and (preview.exists() or preview.suffix != '.png'):
        raise ValueError(
            f'--preview must name a new .png file, got {preview}. '
            'Choose another name.'
        )
    parameters = Parameters(
        args.num_train, args.num_val, *args.size, args.seed
    )
    is_new = build(
        args.out,
        parameters,
        force=args.force,
        track=lambda plans, split: track(
            plans, f'{split} images', console=console
        ),
    )
    state = 'Wrote' if is_new else 'Already complete, nothing to do:'
    console.print(f'{state} {args.out}')
    if preview:
        _, png = cv2.imencode('.png', contact_sheet(args.out))
        write_bytes(preview, png.tobytes())


def main() -> int:
    """Return 0 when done, 1 for a failed check, 2 for invalid input."""
    args = parse_args()
    # clean up when terminated
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(args, PlainConsole(stderr=True))
    except (ValueError, RuntimeError, WriteError) as error:
        print_line('error', error)
        return 1 if isinstance(error, RuntimeError) else 2
    except OSError as error:
        print(
            f'error: --out must be a writable folder, got {error}. '
            'Choose another --out.',
            file=sys.stderr,
        )
        return 2
    return 0
