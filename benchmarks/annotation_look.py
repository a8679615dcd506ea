"""The look at every annotation before training: its share of loading.

Loads a generated file of LVIS's kind (`annotation_load.py` writes it) with
and without the look in turns, in one process, and prints the CPU seconds of
the fastest of each. The target is 10 %.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from unittest import mock

from annotation_load import write_file
from mmdet.datasets import LVISV1Dataset
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.annotation_faults import AnnotationLook


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=10_000)
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument(
        '--out', required=True, help='folder for the file, used again'
    )
    return parser.parse_args()


def load_seconds(file: Path, *, look: bool) -> float:
    """CPU seconds of loading."""
    begin = time.process_time()
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            contextlib.redirect_stdout(
                stack.enter_context(open(os.devnull, 'w'))
            )
        )
        if not look:
            stack.enter_context(
                mock.patch.object(AnnotationLook, 'annotations', lambda *_: ())
            )
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


def main() -> int:
    """Print the two times, and the share of the look."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    file = Path(args.out).absolute() / f'{args.images}.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_file(file, args.images, LVISV1Dataset.METAINFO['classes'])
    without, whole = (
        min(times)
        for times in zip(
            *(
                [load_seconds(file, look=look) for look in (False, True)]
                for _ in range(args.turns)
            ),
            strict=True,
        )
    )
    print(
        f'{args.images} images: {whole:.2f} s of CPU, {without:.2f} s without '
        f'the look, which is {1 - without / whole:.1%} of loading'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
