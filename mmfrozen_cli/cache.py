"""Store the features of a frozen backbone in a cache, and inspect the cache.

To train on a cache, add one hook to the config (docs/feature_cache.md):

    custom_hooks = [dict(type='mmfrozen.FeatureCacheHook', folder='FOLDER')]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import track

from . import add_cfg_options, make_parser, print_error, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 done, 1 damaged (verify), 2 refused or full disk

examples:
  mmfrozen cache fill configs/frozen/mask_rcnn_lite0_mini-lvis.py \\
      --out data/cache --views 4
  mmfrozen cache verify data/cache
"""


ADVISE = 'predict whether a cache saves time, as mmfrozen cache-advice does'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='COMMAND'
    )
    add_fill(commands)
    for name, text, example in (
        ('verify', 'compare every view with its checksum', ''),
        ('info', 'show size, views and settings of a cache', ' --json'),
    ):
        one = commands.add_parser(
            name,
            help=text,
            description=f'{text[0].upper()}{text[1:]}.',
            epilog=f'example: mmfrozen cache {name} data/cache{example}',
        )
        one.add_argument(
            'folder', type=Path, metavar='FOLDER', help='folder of the cache'
        )
        if name == 'info':
            one.add_argument(
                '--json', action='store_true', help='print JSON, not text'
            )
    commands.add_parser('advise', help=ADVISE)  # main() forwards it
    return parser.parse_args()


def add_fill(commands: Any) -> None:
    """Add the command ``fill`` with its options."""
    fill = commands.add_parser(
        'fill',
        help='compute the missing views of a cache',
        description='Compute the missing views of a cache. If interrupted, '
        'run the same command again: it continues with the views that are '
        'still missing.',
        epilog='example: mmfrozen cache fill CONFIG --out data/cache --views '
        '4 --max-bytes 200GB',
    )
    add = fill.add_argument
    add(
        'config',
        metavar='CONFIG',
        help='path of a config with a frozen backbone, or mmdet::NAME',
    )
    add(
        '--out',
        type=Path,
        required=True,
        metavar='FOLDER',
        help='folder of the cache; views in it are kept',
    )
    add(
        '--views',
        type=int,
        required=True,
        metavar='K',
        help='number of augmented views of each image',
    )
    add(
        '--storage',
        default='fp16',
        choices=('fp32', 'fp16', 'bf16', 'int8'),
        help='dtype of the stored features (default: %(default)s)',
    )
    add(
        '--forward',
        default='fp32',
        choices=('fp32', 'bf16'),
        help='dtype of the forward pass (default: %(default)s)',
    )
    add(
        '--seed',
        type=int,
        default=0,
        metavar='N',
        help='seed of the augmentation (default: %(default)s)',
    )
    add(
        '--share',
        default='1/1',
        metavar='I/N',
        help='compute only part I of N, to divide the work among GPUs '
        '(CUDA_VISIBLE_DEVICES) or machines. All parts may be written into '
        'one folder, or into several folders whose files are merged later '
        '(default: %(default)s)',
    )
    add(
        '--max-bytes',
        metavar='SIZE',
        help='largest size of the folder, such as 20GB or 20GiB (default: no '
        'limit)',
    )
    add(
        '--batch',
        type=int,
        metavar='N',
        help="images per forward pass (default: the config's batch size)",
    )
    add(
        '--workers',
        type=int,
        metavar='N',
        help="processes that load images (default: the config's)",
    )
    add_cfg_options(fill)


def show(items: Any, what: str) -> Iterable[Any]:
    """Return the items with a progress bar and the remaining time, drawn on
    standard error."""
    console = PlainConsole(stderr=True)
    return track(items, what, total=len(items), console=console)


def read_share(text: str) -> tuple[int, int]:
    """Return part and number of parts of a text such as ``1/4``.

    Raises:
        ValueError: If the text is malformed or the part is out of range.
    """
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    part, of = (int(x) for x in match.groups()) if match else (0, 0)
    if not 1 <= part <= of:
        raise ValueError(
            f'--share must be I/N with I from 1 to N, got {text!r}. 1/4 is '
            'the first quarter.'
        )
    return part, of


def run_fill(args: argparse.Namespace) -> tuple[int, str]:
    """Compute the views that a cache lacks."""
    from mmfrozen.config_file import load_config
    from mmfrozen.feature_cache import fill
    from mmfrozen.tracing.largest_batch import parse_bytes

    for name, least in (('views', 1), ('seed', 0), ('batch', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(
                f'--{name} must be {least} or more, got {value}. Correct it.'
            )
    share = read_share(args.share)
    max_bytes = args.max_bytes and parse_bytes(args.max_bytes, '--max-bytes')
    config = load_config(args.config, args.cfg_options)
    filled = fill(
        config,
        args.out,
        views=args.views,
        storage=args.storage,
        forward=args.forward,
        seed=args.seed,
        share=share,
        max_bytes=max_bytes,
        batch_size=args.batch,
        num_workers=args.workers,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        progress=lambda batches: show(batches, 'views'),
    )
    done = filled.num_wanted - filled.num_missing
    return 0, (
        f'{args.out}: {done:,} of {filled.num_wanted:,} views of '
        f'{filled.num_images:,} images, {filled.num_bytes:,} bytes; '
        f'{filled.num_new:,} computed in {filled.seconds:.1f} s, '
        f'{filled.forward_seconds:.1f} s of it in the backbone'
    )


def run_verify(args: argparse.Namespace) -> tuple[int, str]:
    """Compare every view of a cache with its checksum.

    Returns:
        Exit status, and the line to print. Damaged shards are printed to
        standard error.
    """
    from mmfrozen.feature_cache.store import find_damage

    damage, count = find_damage(args.folder, lambda x: show(x, 'shards'))
    for line in damage:
        print_line('damaged', line)
    line = f'{count - len(damage)} of {count} shards are intact'
    return (1 if damage else 0), line


def run_info(args: argparse.Namespace) -> tuple[int, str]:
    """Return exit status 0 and the content of a cache, as text or JSON."""
    from mmfrozen.feature_cache import FeatureStore

    store = FeatureStore(args.folder)
    record = asdict(store.facts) | store.summary()
    if args.json:
        return 0, json.dumps(record, indent=1)
    record['key'] = ', '.join(record['key'])
    width = max(map(len, record))
    lines = [f'{name:{width}}  {value}' for name, value in record.items()]
    return 0, '\n'.join(lines)


RUN = {'fill': run_fill, 'verify': run_verify, 'info': run_info}


def main() -> int:
    """Return 0 when done, 1 for damage, 2 for invalid input."""
    if sys.argv[1:2] == ['advise']:
        from . import cache_advice

        sys.argv = [f'{sys.argv[0]} advise', *sys.argv[2:]]
        return cache_advice.main()
    args = parse_args()
    logging.disable(logging.WARNING)
    try:
        # MMDetection prints while it builds; keep that out of the result
        with contextlib.redirect_stdout(sys.stderr):
            status, text = RUN[args.command](args)
    except (ValueError, OSError) as error:
        print_error(error)
        return 2
    print(text)
    return status
