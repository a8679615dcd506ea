"""Compare mmfrozen and MMDetection in loading annotations before training.

Writes a generated annotation file similar to LVIS's once: 12.7 annotations
per image, 1,203 categories by Zipf's law, polygons of 44 corners on average,
not sorted by image. Then builds the data set as a run does, in one or several
processes (gloo), once with MMDetection's class and once with mmfrozen's, and
compares the serialised data lists bit by bit.

CPU seconds and memory are sums over the processes, without those of their
imports. Memory is the proportional set size plus the content of memory files.
Its peak is sampled every 0.1 s while the processes load, the kept memory once
afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ('stock', 'ours')
#: Classes of both sides, by kind of file.
CLASSES = {
    'lvis': ('LVISV1Dataset', 'CheckedLVISV1Dataset'),
    'coco': ('CocoDataset', 'CheckedCocoDataset'),
}
COLUMNS = ('seconds', 'cpu_seconds', 'peak_bytes', 'kept_bytes')
HEIGHT, WIDTH = 480, 640
PER_IMAGE = 1_270_141 / 100_170

EXAMPLES = """LVIS train has 100,170 images; MMDetection takes a minute and
some GB a process.

examples:
  python benchmarks/annotation_load.py --images 10000 --out /tmp/annotations
  python benchmarks/annotation_load.py --images 100170 --processes 1 \\
      --out /tmp/annotations_full
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--images', type=int, default=10_000)
    parser.add_argument('--kind', choices=CLASSES, default='lvis')
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2])
    parser.add_argument(
        '--sides', nargs='+', choices=SIDES, default=list(SIDES)
    )
    parser.add_argument(
        '--out', required=True, help='folder for the file, used again'
    )
    parser.add_argument('--run', nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_file(path: Path, num_images: int, names: tuple[str, ...]) -> None:
    """Write an annotation file, piece by piece."""
    random = np.random.default_rng(0)
    share = 1 / np.arange(1, len(names) + 1)
    count = round(PER_IMAGE * num_images)
    categories = random.choice(len(names), count, p=share / share.sum()) + 1
    # some images have none, as in LVIS
    images = random.integers(num_images * 0.992, size=count) + 1
    shapes = [random_shape(random) for _ in range(5000)]
    picks = random.integers(len(shapes), size=count)
    part = path.with_suffix('.part')
    with open(part, 'w') as stream:
        stream.write('{"info": {}, "annotations": [')
        for row, (image, category, pick) in enumerate(
            zip(images.tolist(), categories.tolist(), picks, strict=True)
        ):
            stream.write(
                f'{", " if row else ""}{{{shapes[pick]}, "id": {row + 1}, '
                f'"image_id": {image}, "category_id": {category}}}'
            )
        infos = [make_image(random, i + 1) for i in range(num_images)]
        listed = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
        stream.write(f'], "images": {json.dumps(infos)}')
        stream.write(f', "categories": {json.dumps(listed)}}}')
    part.rename(path)  # only a complete file has this name


def random_shape(random: np.random.Generator) -> str:
    """Return a polygon, its box and area, as JSON without braces."""
    width, height = np.exp(random.uniform(np.log(8), np.log(240), 2))
    x, y = random.uniform(0, 1, 2) * (WIDTH - width, HEIGHT - height)
    corners = max(3, int(random.lognormal(3.4, 0.9)))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    points = np.stack(
        [
            x + width / 2 * (1 + np.cos(angle)),
            y + height / 2 * (1 + np.sin(angle)),
        ],
        axis=1,
    ).round(2)
    low, high = points.min(0), points.max(0)
    box = np.concatenate([low, high - low]).round(2).tolist()
    content = dict(
        segmentation=[points.ravel().tolist()],
        bbox=box,
        area=round(0.8 * box[2] * box[3], 2),
        iscrowd=0,
    )
    return json.dumps(content)[1:-1]


def make_image(random: np.random.Generator, image_id: int) -> dict[str, Any]:
    """Return an image entry with the keys of LVIS and COCO."""
    name = f'train2017/{image_id:012}.jpg'
    return dict(
        id=image_id,
        file_name=name,
        coco_url=f'http://images.cocodataset.org/{name}',
        height=HEIGHT,
        width=WIDTH,
        license=1,
        date_captured='2013-11-14 11:18:45',
        neg_category_ids=random.integers(1, 1204, 14).tolist(),
        not_exhaustive_category_ids=random.integers(1, 1204, 2).tolist(),
    )


def run(name: str, rank: int, size: int, file: str, store: str) -> None:
    """Build the data set in this process; print its costs as JSON."""
    import torch.distributed
    from mmdet.datasets import LVISV1Dataset
    from mmdet.registry import DATASETS
    from mmengine.logging import MMLogger

    import mmfrozen  # noqa: F401  (registers)

    MMLogger.get_current_instance().setLevel('ERROR')
    if size > 1:
        torch.distributed.init_process_group(
            'gloo',
            init_method=f'file://{store}',
            rank=rank,
            world_size=size,
        )
    print('ready', flush=True)
    input()
    begin, cpu_begin = time.perf_counter(), time.process_time()
    options = dict(check_images=False) if name.startswith('Checked') else {}
    with contextlib.redirect_stdout(sys.stderr):
        dataset = DATASETS.build(
            dict(
                type=name,
                ann_file=file,
                data_prefix=dict(img=''),
                metainfo=dict(classes=LVISV1Dataset.METAINFO['classes']),
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline=[],
                **options,
            )
        )
    record = dict(
        seconds=time.perf_counter() - begin,
        cpu_seconds=time.process_time() - cpu_begin,
    )
    print('loaded', flush=True)
    input()
    digest = hashlib.sha256(dataset.data_bytes)
    digest.update(dataset.data_address)
    print(json.dumps({**record, 'digest': digest.hexdigest()}), flush=True)


def memory_bytes(processes: list[subprocess.Popen]) -> int:
    """Return the memory of processes: mapped pages and files in memory."""
    total, files = 0, {}
    for process in processes:
        folder = Path('/proc', str(process.pid))
        text = (folder / 'smaps_rollup').read_text()
        for key, sign in (('Pss', 1), ('Pss_Shmem', -1)):
            value = re.search(rf'^{key}:\s+(\d+) kB', text, re.MULTILINE)
            total += sign * int(value[1]) * 1024
        for link in (folder / 'fd').iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(link).startswith('/memfd:'):
                    status = link.stat()
                    files[status.st_ino] = status.st_blocks * 512
    return total + sum(files.values())


def measure(name: str, size: int, file: Path, store: str) -> dict[str, Any]:
    """Measure loading in new processes, which connect by the file `store`."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, '--out', str(file.parent), '--run']
            + [name, str(rank), str(size), str(file), store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(size)
    ]
    for process in processes:
        expect(process, 'ready')
    before = peak = memory_bytes(processes)
    answer(processes)
    waiting = {process.stdout for process in processes}
    while waiting:
        done = select.select(list(waiting), [], [], 0.1)[0]
        peak = max(peak, memory_bytes(processes))
        waiting -= set(done)
    for process in processes:
        expect(process, 'loaded')
    kept = memory_bytes(processes)
    answer(processes)
    records = [json.loads(p.stdout.readline()) for p in processes]
    for process in processes:
        process.communicate()
    return dict(
        seconds=max(x['seconds'] for x in records),
        cpu_seconds=sum(x['cpu_seconds'] for x in records),
        peak_bytes=max(peak, kept) - before,
        kept_bytes=kept - before,
        digests={x['digest'] for x in records},
    )


def answer(processes: list[subprocess.Popen]) -> None:
    """Let processes continue."""
    for process in processes:
        process.stdin.write('\n')
        process.stdin.flush()


def expect(process: subprocess.Popen, word: str) -> None:
    """Wait until a process prints a word."""
    if (line := process.stdout.readline().strip()) != word:
        sys.exit(f'error: a process must say {word}, got {line!r}.')


def main() -> int:
    """Print one row per side and their ratio; return the exit status."""
    args = parse_args()
    if args.run:
        name, rank, size, *files = args.run
        run(name, int(rank), int(size), *files)
        return 0
    from mmdet.datasets import LVISV1Dataset

    file = Path(args.out).absolute() / f'{args.images}.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        print('writing the file ...', file=sys.stderr)
        write_file(file, args.images, LVISV1Dataset.METAINFO['classes'])
    print(
        f'{args.images} images, {round(PER_IMAGE * args.images)} annotations, '
        f'{file.stat().st_size / 2**20:.0f} MiB\n\n{"processes":10}'
        f'{"":22}{"seconds":>9}{"CPU":>8}{"peak MiB":>10}{"kept MiB":>10}'
    )
    names = dict(zip(SIDES, CLASSES[args.kind], strict=True))
    digests = set()
    for size in args.processes:
        with tempfile.TemporaryDirectory() as folder:
            records = [
                measure(names[side], size, file, f'{folder}/{side}')
                for side in args.sides
            ]
        rows = [[record[key] for key in COLUMNS] for record in records]
        for side, row in zip(args.sides, rows, strict=True):
            seconds, cpu_seconds, peak_bytes, kept_bytes = row
            print(
                f'{size:<10}{names[side]:22}{seconds:9.1f}{cpu_seconds:8.1f}'
                f'{peak_bytes / 2**20:10.0f}{kept_bytes / 2**20:10.0f}'
            )
        if len(rows) == len(SIDES):
            ratios = [a / max(b, 1e-9) for a, b in zip(*rows, strict=True)]
            print(
                f'{size:<10}{"first / second":22}{ratios[0]:9.1f}'
                f'{ratios[1]:8.1f}{ratios[2]:10.1f}{ratios[3]:10.1f}\n'
            )
        digests |= set().union(*(record['digests'] for record in records))
    if len(digests) > 1:
        print('error: the data lists must be equal.', file=sys.stderr)
        return 1
    print('all data lists are equal bit by bit')
    return 0


if __name__ == '__main__':
    sys.exit(main())
