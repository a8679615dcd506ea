"""Time large scale jitter with MMDetection's masks and with compact masks.

Both sides run MMDetection's own RandomResize, RandomCrop, FilterAnnotations,
RandomFlip and Pad; mmfrozen's side loads with LoadCompactAnnotations. Times
are CPU time, which other work on the machine hardly changes. Results are
compared bit by bit in the same run. The last line of each group has no masks
at all: it is the time to read, resize and pad the image, which no handling of
masks can save.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

import mmfrozen  # noqa: F401  (registers)

from scenes import dataset, load_pipeline, write_scenes  # isort: skip

COUNTS = (10, 60)
SIDES = {
    'mmdet 3.3': load_pipeline('LoadAnnotations'),
    'mmfrozen': load_pipeline('LoadCompactAnnotations'),
    'no masks': load_pipeline('LoadAnnotations'),
}
SIDES['no masks'][1]['with_mask'] = False
SIDES['no masks'][3]['recompute_bbox'] = False
STEPS = [step['type'] for step in SIDES['mmdet 3.3']]

EXAMPLES = """examples:
  python benchmarks/lsj.py
  python benchmarks/lsj.py --repeats 200
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--repeats', type=int, default=48)
    return parser.parse_args()


def run(
    steps: list[Any], info: dict[str, Any], seed: int
) -> tuple[Any, list[float]]:
    """Run the transforms of one side on an image.

    Returns:
        The results, and the seconds of each transform.
    """
    results = copy.deepcopy(info)
    np.random.seed(seed)
    seconds = []
    for step in steps:
        start = time.process_time()
        results = step(results)
        seconds.append(time.process_time() - start)
        if results is None:  # no object is left: MMDetection draws again
            break
    return results, seconds


def check_equal(ours: Any, stock: Any) -> None:
    """Compare the results of both sides bit by bit, which is not timed."""
    assert (ours is None) == (stock is None)
    if ours is None:
        return
    assert np.array_equal(ours['img'], stock['img'])
    assert np.array_equal(ours['gt_masks'].masks, stock['gt_masks'].masks)
    assert torch.equal(ours['gt_bboxes'].tensor, stock['gt_bboxes'].tensor)
    assert np.array_equal(ours['gt_bboxes_labels'], stock['gt_bboxes_labels'])


def measure(folder: Path, repeats: int) -> dict[str, list[list[float]]]:
    """Return the seconds of each transform by side and image.

    All sides use the same images and random numbers.
    """
    images = DATASETS.build(dataset(folder, 'LoadAnnotations'))
    sides = {
        name: [TRANSFORMS.build(step) for step in steps]
        for name, steps in SIDES.items()
    }
    found: dict[str, list[list[float]]] = {name: [] for name in sides}
    for seed in range(repeats):
        info = images.get_data_info(seed % len(images))
        made = {}
        for name, steps in sides.items():
            made[name], seconds = run(steps, info, seed)
            if made[name] is not None:
                found[name].append(seconds)
        check_equal(made['mmfrozen'], made['mmdet 3.3'])
    return found


def main() -> int:
    """Measure all sides and print the table."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    init_default_scope('mmdet')
    cv2.setNumThreads(0)  # as in MMDetection's workers
    torch.set_num_threads(1)
    table = Table(
        title='large scale jitter to 1024 x 1024, mean CPU ms a step over '
        f'{args.repeats} images, opencv {cv2.__version__}, 1 thread; results '
        'equal bit by bit'
    )
    table.add_column('objects', justify='right')
    table.add_column('masks')
    for step in STEPS:
        table.add_column(step, justify='right')
    for column in ('sum', 'median', 'x faster'):
        table.add_column(column, justify='right')
    for count in COUNTS:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(sys.stderr),
        ):
            write_scenes(Path(folder), 12, count)
            found = measure(Path(folder), args.repeats)
        sums = {k: [sum(s) for s in v] for k, v in found.items()}
        stock = statistics.median(sums['mmdet 3.3'])
        for name, seconds in found.items():
            means = 1e3 * np.mean(seconds, axis=0)
            median = statistics.median(sums[name])
            table.add_row(
                str(count),
                name,
                *(f'{x:.1f}' for x in means),
                f'{means.sum():.1f}',
                f'{1e3 * median:.1f}',
                f'{stock / median:.1f}',
            )
        table.add_section()
    Console(width=150).print(table)
    return 0


if __name__ == '__main__':
    sys.exit(main())
