"""Measure the share of annotation validation in the time of loading.

Loads a generated file similar to LVIS's (written by `annotation_load.py`)
alternately with and without validation, in one process. Prints the median and
the range of CPU seconds and of the share, once as timed inside the loads and
once as the difference between successive loads, which other work on the
machine disturbs more. The target is 10 %.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from annotation_load import write_file
from mmdet.datasets import LVISV1Dataset
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.annotation_faults import AnnotationValidator, Fault
from mmfrozen.datasets import pieces


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=10_000)
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument(
        '--out', required=True, help='folder for the file, used again'
    )
    return parser.parse_args()


class TimedValidator(AnnotationValidator):
    """Validator that sums up its CPU seconds."""

    seconds = 0.0

    def annotations(self, chunk: Sequence[Mapping[str, Any]]) -> list[Fault]:
        """Return the faults of some annotations."""
        begin = time.process_time()
        found = list(super().annotations(chunk))
        TimedValidator.seconds += time.process_time() - begin
        return found


class NoValidator(AnnotationValidator):
    """Validator that checks no annotations."""

    def annotations(self, chunk: Sequence[Mapping[str, Any]]) -> tuple:
        """Return no faults."""
        return ()


def load_seconds(file: Path, validator: type[AnnotationValidator]) -> float:
    """Return the CPU seconds of loading with a validator."""
    begin = time.process_time()
    with (
        open(os.devnull, 'w') as nowhere,
        contextlib.redirect_stdout(nowhere),
        mock.patch.object(pieces, 'AnnotationValidator', validator),
    ):
        DATASETS.build(
            dict(
                type='CheckedLVISV1Dataset',
                ann_file=str(file),
                data_prefix=dict(img=''),
                check_images=False,
                pipeline=[],
            )
        )
    return time.process_time() - begin


def spread(values: np.ndarray, form: str) -> str:
    """Return median and range as text."""
    return (
        f'{np.median(values):{form}} ({values.min():{form}} to '
        f'{values.max():{form}})'
    )


def main() -> int:
    """Print the times, and the share of the validation."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    file = Path(args.out).absolute() / f'{args.images}.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_file(file, args.images, LVISV1Dataset.METAINFO['classes'])
    rows = []
    for _ in range(args.turns):
        TimedValidator.seconds = 0.0
        without = load_seconds(file, NoValidator)
        rows.append(
            (
                without,
                load_seconds(file, TimedValidator),
                TimedValidator.seconds,
            )
        )
    without, whole, inside = np.array(rows).T
    print(
        f'{args.images} images, {args.turns} turns, median (range)\n'
        f'CPU seconds of loading: {spread(whole, ".2f")}\n'
        f'of the validation in it: {spread(inside, ".2f")}, a share of '
        f'{spread(inside / whole, ".1%")}\n'
        f'by the difference to loading without it: '
        f'{spread(1 - without / whole, ".1%")}'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
