"""Measure copy-paste of mmfrozen, MMDetection and torchvision's reference.

Three tables, at 1024 x 1024 with 10 and 60 objects in each image:

- the transform alone, on the same two images with the same objects;
- the whole pipeline: load two images, annotate, jitter, paste, pack, each side
  in a process of its own, with its peak memory above that at its start;
- the same through one worker of a DataLoader, which also sends the sample.

The first two are CPU time, which other work on the machine hardly changes;
the last is elapsed time.

torchvision has no copy-paste transform; its published algorithm
(references/detection, PR #5825) is reimplemented here with its operators.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision.ops import masks_to_boxes

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.transforms import CompactMasks

from scenes import dataset, write_scenes  # isort: skip

COUNTS = (10, 60)
STOCK, BANK, OURS = 'mmdet 3.3', 'mmfrozen, object bank', 'mmfrozen'
PIPELINES = (STOCK, OURS, BANK)

EXAMPLES = """examples:
  python benchmarks/copy_paste.py
  python benchmarks/copy_paste.py --repeats 50 --json
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--repeats', type=int, default=24)
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--run', choices=PIPELINES, help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def torchvision_copy_paste(results: dict[str, Any]) -> dict[str, Any]:
    """Paste a random subset, as torchvision's reference does it."""
    source = results['source']
    count = len(source['masks'])
    chosen = torch.unique(torch.randint(0, count, (count,)))
    pasted = source['masks'][chosen]
    alpha = pasted.sum(dim=0) > 0
    image = results['image'] * ~alpha + source['image'] * alpha
    masks = results['masks'] * ~alpha
    seen = masks.sum((-1, -2)) > 0
    masks = torch.cat((masks[seen], pasted))
    boxes = torch.cat(
        (masks_to_boxes(masks[: int(seen.sum())]), source['boxes'][chosen])
    )
    labels = torch.cat((results['labels'][seen], source['labels'][chosen]))
    size = boxes[:, 2:] - boxes[:, :2]
    valid = (size > 1e-2).all(dim=1)
    return dict(
        image=image,
        masks=masks[valid],
        boxes=boxes[valid],
        labels=labels[valid],
    )


def as_tensors(results: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors that torchvision's reference takes as its input."""
    found = dict(
        image=torch.from_numpy(results['img']).permute(2, 0, 1).contiguous(),
        masks=torch.from_numpy(results['gt_masks'].masks),
        boxes=results['gt_bboxes'].tensor,
        labels=torch.from_numpy(results['gt_bboxes_labels']),
    )
    if 'mix_results' in results:
        found['source'] = as_tensors(results['mix_results'][0])
    return found


def compact(results: dict[str, Any]) -> dict[str, Any]:
    """Return results with masks as crops, as mmfrozen's loading does."""
    masks = CompactMasks.of(results['gt_masks'])
    crops = [c._replace(bitmap=c.bitmap.copy()) for c in masks.crops]
    found = {
        **results,
        'gt_masks': CompactMasks(crops, *masks.masks.shape[1:]),
    }
    if 'mix_results' in results:
        found['mix_results'] = [compact(results['mix_results'][0])]
    return found


def alone(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Time the transform by itself.

    Returns:
        Seconds of each repeat, by name of the implementation.
    """
    inner = dataset(folder, 'LoadAnnotations')
    for step in inner['pipeline']:
        if step['type'] == 'RandomResize':
            step['ratio_range'] = (1.0, 1.0)  # every object is in the image
    images = DATASETS.build(inner)
    stock = TRANSFORMS.build(dict(type='CopyPaste'))
    ours = TRANSFORMS.build(dict(type='SimpleCopyPaste'))

    def whole(results: dict[str, Any]) -> None:
        ours(results)['gt_masks'].masks  # noqa: B018  (draws them)

    runs: dict[str, tuple[Callable, Callable]] = {
        STOCK: (stock, copy.deepcopy),
        "torchvision's reference": (torchvision_copy_paste, as_tensors),
        'mmfrozen on bitmaps': (ours, copy.deepcopy),
        '... and whole bitmaps out': (whole, copy.deepcopy),
        'mmfrozen on compact masks': (ours, compact),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(repeats):
        results = images[i % len(images)]
        results['mix_results'] = [images[(i + 1) % len(images)]]
        for name, (transform, prepare) in runs.items():
            given = prepare(results)
            np.random.seed(i)
            torch.manual_seed(i)
            start = time.process_time()
            transform(given)
            seconds[name].append(time.process_time() - start)
    return seconds


def config_of(name: str, folder: Path) -> dict[str, Any]:
    """Return the data set config of one side, with the whole pipeline."""
    paste: dict[str, Any] = dict(type='SimpleCopyPaste')
    if name == STOCK:
        paste = dict(type='CopyPaste')
    elif name == BANK:
        paste['sources'] = dict(type='ObjectBank', max_bytes=64 * 2**20)
    return dict(
        type='MultiImageMixDataset' if name == STOCK else 'CopyPasteDataset',
        dataset=dataset(
            folder,
            'LoadAnnotations' if name == STOCK else 'LoadCompactAnnotations',
        ),
        pipeline=[paste, dict(type='PackDetInputs')],
    )


def run_pipeline(name: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Load samples in this process, then through one worker."""
    before = peak_resident_bytes()
    samples = DATASETS.build(config_of(name, folder))
    if name == STOCK:  # it sometimes draws the index after the last image
        samples.pipeline[0].get_indexes = lambda d: random.randrange(len(d))
    seconds = [_timed(samples, i) for i in range(repeats)]
    peak_bytes = peak_resident_bytes() - before
    np.random.seed(0)
    torch.manual_seed(0)
    chosen = [i % len(samples) for i in range(repeats + 4)]
    batches = iter(
        DataLoader(
            samples,
            sampler=chosen,
            num_workers=1,
            collate_fn=pseudo_collate,
            worker_init_fn=lambda _: (np.random.seed(1), cv2.setNumThreads(0)),
        )
    )
    for _ in range(4):  # until the worker has started and is ahead by two
        next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return dict(
        seconds=seconds,
        peak_bytes=peak_bytes,
        worker_seconds=(time.perf_counter() - start) / repeats,
    )


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process so far, on Linux."""
    status = Path('/proc/self/status').read_text()
    return 1024 * int(status.partition('VmHWM:')[2].split()[0])


def _timed(samples: Any, number: int) -> float:
    np.random.seed(number)
    random.seed(number)
    start = time.process_time()
    samples[number % len(samples)]
    return time.process_time() - start


def in_own_process(name: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Run one side in a new process, without the memory of the others."""
    done = subprocess.run(
        [
            sys.executable,
            __file__,
            '--run',
            name,
            '--folder',
            str(folder),
            '--repeats',
            str(repeats),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print medians and speed-ups over MMDetection."""
    table = Table(
        title=f'copy-paste at 1024 x 1024, torch {torch.__version__}, '
        f'opencv {cv2.__version__}, 1 thread'
    )
    for column in ('what', 'objects', 'engine'):
        table.add_column(column)
    for column in ('ms, median', '10 to 90 %', 'x faster', 'peak MB'):
        table.add_column(column, justify='right')
    for row in rows:
        table.add_row(
            row['what'],
            str(row['objects']),
            row['engine'],
            f'{1e3 * row["seconds"]:.1f}',
            row['spread'],
            f'{row["ratio"]:.1f}',
            f'{row["peak_bytes"] / 1e6:.0f}' if row['peak_bytes'] else '',
        )
    console.print(table)


def summarise(
    what: str, count: int, found: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return one table row per implementation."""
    stock = statistics.median(found[STOCK]['seconds'])
    rows = []
    for engine, record in found.items():
        low, high = np.quantile(record['seconds'], (0.1, 0.9)) * 1e3
        median = statistics.median(record['seconds'])
        rows.append(
            dict(
                what=what,
                objects=count,
                engine=engine,
                seconds=median,
                spread=f'{low:.1f} to {high:.1f}' if low < high else '',
                ratio=stock / median,
                peak_bytes=record.get('peak_bytes'),
            )
        )
    return rows


def compare(repeats: int, console: Console) -> list[dict[str, Any]]:
    """Measure all tables, one after the other; return their rows."""
    rows = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            write_scenes(path, 12, count)
            console.print(f'{count} objects: the transform alone ...')
            found = alone(path, repeats)
            rows += summarise(
                'transform alone',
                count,
                {k: dict(seconds=v) for k, v in found.items()},
            )
            whole = {}
            for name in PIPELINES:
                console.print(f'{count} objects: {name} ...')
                whole[name] = in_own_process(name, path, repeats)
            rows += summarise('whole pipeline', count, whole)
            sent = {
                k: dict(seconds=[v['worker_seconds']])
                for k, v in whole.items()
            }
            rows += summarise('through a worker', count, sent)
    return rows


def main() -> int:
    """Measure copy-paste and print the tables."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    init_default_scope('mmdet')
    cv2.setNumThreads(0)  # as in MMDetection's workers
    torch.set_num_threads(1)
    if args.run:
        with contextlib.redirect_stdout(sys.stderr):  # pycocotools prints
            record = run_pipeline(args.run, args.folder, args.repeats)
        print(json.dumps(record))
        return 0
    with contextlib.redirect_stdout(sys.stderr):
        rows = compare(args.repeats, Console(stderr=True))
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows, Console(width=120))
    return 0


if __name__ == '__main__':
    sys.exit(main())
