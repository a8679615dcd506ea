"""Draw augmented training samples of any config on one sheet.

Masks, boxes and names are coloured by the number of training images with
their class: rare, common or frequent, as in LVIS.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.atomic_write import atomic_path
from mmfrozen.config_file import build_train_dataset, load_config
from mmfrozen.errors import one_line
from mmfrozen.reports.augmentation_sheet import (
    GROUPS,
    Sample,
    draw_sheet,
    group_of,
    sample_of,
)
from mmfrozen.seeds import NumberedIndex, seeded
from mmfrozen.transforms.class_index import class_names, index_classes

from . import add_cfg_options, make_parser, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 done, 2 invalid input

examples:
  mmfrozen browse configs/frozen/mask_rcnn_r101_lvis.py
  mmfrozen browse \\
      mmdet::rtmdet/rtmdet-ins_s_8xb32-300e_coco.py --num 24 --out rtm.png \\
      --cfg-options train_dataloader.dataset.data_root=/data/coco/
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path of a config, or mmdet::NAME')
    add(
        '--out',
        type=Path,
        metavar='FILE.png',
        help='image to write (default: NAME_OF_THE_CONFIG.png)',
    )
    add(
        '--num',
        type=int,
        default=12,
        metavar='N',
        help='number of samples to draw (default: 12)',
    )
    add(
        '--seed',
        type=int,
        default=0,
        metavar='N',
        help='seed of the choice of samples and of their augmentation '
        '(default: 0)',
    )
    add('--force', action='store_true', help='replace FILE.png if it exists')
    add_cfg_options(parser)
    return parser.parse_args()


def check(args: argparse.Namespace) -> Path:
    """Check the options.

    Returns:
        Path of the file to write.
    """
    out = args.out or Path(f'{Path(args.config.split("::")[-1]).stem}.png')
    if out.suffix != '.png':
        raise ValueError(f'--out must name a .png file, got {out}. Rename it.')
    if out.exists() and not args.force:
        raise ValueError(
            f'--out must not exist yet, got {out}. Choose another name or '
            'give --force.'
        )
    for name in ('num', 'seed'):
        if getattr(args, name) < (name == 'num'):
            raise ValueError(
                f'--{name} must be {int(name == "num")} or more, got '
                f'{getattr(args, name)}. Correct it.'
            )
    return out


def build_dataset(args: argparse.Namespace) -> Any:
    """Build the training data set of a config."""
    config = load_config(args.config, args.cfg_options, 'train_dataloader')
    dataset = build_train_dataset(config)
    if not len(dataset):
        raise ValueError(
            f'CONFIG must have images in train_dataloader.dataset, got none '
            f'in {args.config}. Give a config that trains.'
        )
    return dataset


def draw_samples(dataset: Any, num: int, seed: int) -> list[Sample]:
    """Draw samples at random, each with its own seed."""
    count = min(num, len(dataset))
    chosen = random.Random(seed).sample(range(len(dataset)), count)
    samples = []
    progress = track(
        chosen, 'samples', console=PlainConsole(stderr=True), transient=True
    )
    for number, index in enumerate(progress):
        with seeded(NumberedIndex(index, (seed, 0, number))):
            samples.append(sample_of(dataset[index]))
    return samples


def run(args: argparse.Namespace) -> str:
    """Draw the sheet and write it.

    Returns:
        A one-line summary of the sheet.
    """
    out = check(args)
    dataset = build_dataset(args)
    try:
        samples = draw_samples(dataset, args.num, args.seed)
        classes = class_names(dataset)
        counts = index_classes(dataset).num_images
    except Exception as error:  # transforms may raise anything
        raise ValueError(
            'The training pipeline must give samples, got '
            f'{one_line(error)}. Correct it in {args.config}.'
        ) from error
    figure = draw_sheet(samples, classes, counts, Path(args.config).name)
    with atomic_path(out) as part:
        figure.savefig(part, format='png')
    groups = [
        group_of(int(counts[label]))
        for sample in samples
        for label in sample.labels[~sample.ignored]
    ]
    found = ', '.join(f'{groups.count(group)} {group}' for group in GROUPS)
    return (
        f'{out}: {len(samples)} samples, {len(groups)} objects of '
        f'{len(set(np.concatenate([s.labels for s in samples])))} classes: '
        f'{found}'
    )


def main() -> int:
    """Return 0 when drawn, 2 for invalid input."""
    args = parse_args()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            line = run(args)
    except (ValueError, OSError) as error:
        print_line('error', error)
        return 2
    print(line)
    return 0
