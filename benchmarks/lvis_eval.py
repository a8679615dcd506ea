"""Measure LVIS evaluation by mmfrozen, the official package and others.

Writes generated ground truth and predictions once, similar to those of a
detector on LVIS val: about 12 instances of 8 categories per image, most of
which are detected, and many detections of categories that are not annotated
in the image. Then evaluates boxes and masks, each engine in a process of its
own, in two ways:

in a run    the predictions arrive image by image, as from a detector; load
            the annotations, match, average. MMDetection's LVISMetric runs the
            official package on result files that it writes; it rounds to 3
            digits and takes the size of a mask from its box.
from files  load annotations and result files, match, average.

With several sizes it also fits straight lines to time and memory, and
extrapolates them to LVIS val.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Engines by way; the others are compared with the last one.
WAYS = {
    'in a run': ('StratifiedLVISMetric', 'without bootstrap', 'LVISMetric'),
    'from files': ('mmfrozen', 'hotcoco', 'faster-coco-eval', 'lvis'),
}
ENGINES = tuple(name for names in WAYS.values() for name in names)
KINDS = ('bbox', 'segm')
HEIGHT, WIDTH = 480, 640
FIGURES = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf')

LVIS_VAL = 19_809  # images

EXAMPLES = """The official package takes some 1.7 MiB an image: do not give it
more than the machine has.

examples:
  python benchmarks/lvis_eval.py --images 300 1000 2000 --out /tmp/lvis_eval
  python benchmarks/lvis_eval.py --images 19809 --engines \\
      StratifiedLVISMetric mmfrozen hotcoco --out /tmp/lvis_eval
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--images',
        type=int,
        nargs='+',
        default=[300, 1000],
        metavar='N',
        help='sizes, smallest first (default: 300 1000)',
    )
    parser.add_argument('--categories', type=int, default=1203)
    parser.add_argument('--detections', type=int, default=300)
    parser.add_argument(
        '--engines', nargs='+', choices=ENGINES, default=ENGINES
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='FOLDER',
        help='for the files of each size, used again',
    )
    parser.add_argument('--run', choices=ENGINES, help=argparse.SUPPRESS)
    return parser.parse_args()


def octagon(box: np.ndarray) -> list[float]:
    """Return a polygon of eight corners in a box of x, y, width, height."""
    x, y, width, height = box
    across = np.array([0.3, 0.7, 1, 1, 0.7, 0.3, 0, 0])
    down = np.array([0, 0, 0.3, 0.7, 1, 1, 0.7, 0.3])
    points = np.stack([x + across * width, y + down * height], axis=1)
    return points.round(2).ravel().tolist()


def random_box(random: np.random.Generator) -> np.ndarray:
    """Return a box x, y, width, height with log-uniform sides in pixels."""
    sides = np.exp(random.uniform(np.log(8), np.log(240), 2))
    corner = random.uniform(0, 1, 2) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([corner, sides]).round(2)


def encode(box: np.ndarray) -> dict[str, Any]:
    """Return the RLE of a detected mask in a box."""
    from pycocotools import mask as mask_utils

    rle = mask_utils.frPyObjects([octagon(box)], HEIGHT, WIDTH)[0]
    return dict(size=rle['size'], counts=rle['counts'].decode())


def write_files(args: argparse.Namespace, number: int, folder: Path) -> None:
    """Write the annotations, and the predictions as JSON and as a pickle."""
    random = np.random.default_rng(0)
    share = 1 / np.arange(1, args.categories + 1)  # Zipf
    share /= share.sum()
    stray = [random_box(random) for _ in range(2000)]
    stray = [(box.tolist(), encode(box)) for box in stray]
    images, annotations = [], []
    with (
        open(folder / 'bbox.part', 'w') as boxes,
        open(folder / 'segm.json', 'w') as masks,
        open(folder / 'predictions.pkl', 'wb') as predictions,
    ):
        for image_id in range(1, number + 1):
            image, own, found = make_image(args, random, share, image_id)
            images.append(image)
            for annotation in own:
                annotations.append({**annotation, 'id': len(annotations) + 1})
            rest = args.detections - len(found)
            labels = random.choice(args.categories, rest, p=share) + 1
            picks = random.integers(len(stray), size=rest)
            scores = random.beta(1, 8, rest).round(6)
            found += [
                (int(c), float(s), *stray[i])
                for c, s, i in zip(labels, scores, picks, strict=True)
            ]
            pickle.dump(found, predictions)
            for stream, key, place in (
                (boxes, 'bbox', 2),
                (masks, 'segmentation', 3),
            ):
                rows = [
                    {
                        'image_id': image_id,
                        'category_id': x[0],
                        key: x[place],
                        'score': x[1],
                    }
                    for x in found
                ]
                stream.write('[' if image_id == 1 else ', ')
                stream.write(json.dumps(rows)[1:-1])
        boxes.write(']')
        masks.write(']')
    categories = [
        dict(
            id=i + 1,
            name=f'category {i}',
            frequency='fcr'[min(2, 3 * i // args.categories)],
            image_count=1 + 2000 // (i + 1),
            instance_count=1 + 6000 // (i + 1),
        )
        for i in range(args.categories)
    ]
    content = dict(images=images, annotations=annotations)
    (folder / 'gt.json').write_text(
        json.dumps(dict(**content, categories=categories))
    )
    # the last file to appear, so that all are complete if it exists
    (folder / 'bbox.part').rename(folder / 'bbox.json')


def make_image(
    args: argparse.Namespace,
    random: np.random.Generator,
    share: np.ndarray,
    image_id: int,
) -> tuple[dict, list[dict], list[tuple]]:
    """Return an image, its annotations, and detections near most of them."""
    chosen = random.choice(args.categories, 22, p=share, replace=False) + 1
    present, absent = chosen[:8].tolist(), chosen[8:].tolist()
    image = dict(
        id=image_id,
        height=HEIGHT,
        width=WIDTH,
        neg_category_ids=absent,
        not_exhaustive_category_ids=present[:1],
    )
    annotations, found = [], []
    for category in present:
        for _ in range(int(random.integers(1, 3))):
            box = random_box(random)
            annotations.append(
                dict(
                    image_id=image_id,
                    category_id=category,
                    bbox=box.tolist(),
                    area=float(0.82 * box[2] * box[3]),
                    segmentation=[octagon(box)],
                )
            )
            for _ in range(int(random.integers(0, 4))):
                size = np.concatenate([box[2:], box[2:]])
                near = box + random.normal(0, 0.06, 4) * size
                near[2:] = near[2:].clip(min=2)
                near = near.round(2)
                score = round(float(random.beta(3, 3)), 6)
                found.append((category, score, near.tolist(), encode(near)))
    return image, annotations, found[: args.detections]


def figures_of(named: Any, kind: str) -> dict[str, float]:
    """Return the nine metrics that all engines compute."""
    return {f'{kind} {name}': float(named[name]) for name in FIGURES}


def run_lvis(folder: Path) -> dict[str, float]:
    """Evaluate with the official package."""
    from lvis import LVIS, LVISEval, LVISResults

    gt = LVIS(str(folder / 'gt.json'))
    figures = {}
    for kind in KINDS:
        results = LVISResults(gt, str(folder / f'{kind}.json'))
        evaluation = LVISEval(gt, results, kind)
        evaluation.run()
        figures |= figures_of(evaluation.results, kind)
    return figures


def run_hotcoco(folder: Path) -> dict[str, float]:
    """Evaluate with hotcoco, written in Rust.

    It returns no matches, which bootstrap and bins need.
    """
    import hotcoco

    gt = hotcoco.COCO(str(folder / 'gt.json'))
    figures = {}
    for kind in KINDS:
        results = gt.load_res(str(folder / f'{kind}.json'))
        evaluation = hotcoco.COCOeval(gt, results, kind, lvis_style=True)
        evaluation.run()
        figures |= figures_of(evaluation.get_results(), kind)
    return figures


def run_faster_coco_eval(folder: Path) -> dict[str, float]:
    """Evaluate with faster-coco-eval, written in C++."""
    from faster_coco_eval import COCO, COCOeval_faster

    gt = COCO(str(folder / 'gt.json'))
    figures = {}
    for kind in KINDS:
        results = gt.loadRes(str(folder / f'{kind}.json'))
        evaluation = COCOeval_faster(
            gt, results, kind, lvis_style=True, print_function=len
        )
        evaluation.params.maxDets = [300]
        evaluation.run()
        names = {
            'AP': 'AP_all', 'AP50': 'AP_50', 'AP75': 'AP_75',
            'APs': 'AP_small', 'APm': 'AP_medium', 'APl': 'AP_large',
            'APr': 'APr', 'APc': 'APc', 'APf': 'APf',
        }  # fmt: skip
        stats = evaluation.stats_as_dict
        figures |= figures_of({k: stats[v] for k, v in names.items()}, kind)
    return figures


def run_mmfrozen(folder: Path) -> dict[str, float]:
    """Evaluate with mmfrozen, with the matches for bins and intervals."""
    from mmfrozen.evaluation import GroundTruth, match
    from mmfrozen.evaluation.strata import frequency_bins, mean

    gt = GroundTruth.read(folder / 'gt.json')
    figures = {}
    for kind in KINDS:
        path = folder / f'{kind}.json'
        matches = match(gt, path, iou_type=kind, protocol='lvis')
        values = matches.ap_per_class()
        named = {'AP': mean(values)}
        for iou in (50, 75):
            named[f'AP{iou}'] = mean(matches.ap_per_class(iou=iou / 100))
        for area in ('small', 'medium', 'large'):
            named[f'AP{area[0]}'] = mean(matches.ap_per_class(area=area))
        bins = frequency_bins(gt)
        for index, name in enumerate(bins.names):
            named[f'AP{name}'] = mean(values[bins.members == index])
        figures |= figures_of(named, kind)
    return figures


def samples(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield predictions as a detector returns them, with encoded masks."""
    import torch

    with open(folder / 'predictions.pkl', 'rb') as stream:
        image_id = 0
        while stream.peek(1):
            image_id += 1
            begin = now()
            found = pickle.load(stream)
            boxes = torch.tensor([x[2] for x in found])
            boxes[:, 2:] += boxes[:, :2]
            sample = dict(
                img_id=image_id,
                ori_shape=(HEIGHT, WIDTH),
                pred_instances=dict(
                    bboxes=boxes,
                    scores=torch.tensor([x[1] for x in found]),
                    labels=torch.tensor([x[0] - 1 for x in found]),
                    masks=[dict(x[3]) for x in found],
                ),
            )
            READING.append(now() - begin)
            yield sample


#: Elapsed and CPU seconds of reading the input, which are subtracted.
READING: list[np.ndarray] = []


def now() -> np.ndarray:
    """Return elapsed time and CPU time in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def run_metric(folder: Path, **options: Any) -> dict[str, float]:
    """Run mmfrozen's metric, from its construction to its results."""
    from mmfrozen.evaluation import StratifiedLVISMetric

    metric = StratifiedLVISMetric(
        str(folder / 'gt.json'), list(KINDS), **options
    )
    number = 0
    for sample in samples(folder):
        metric.process(None, [sample])
        number += 1
    named = metric.evaluate(number)
    return {
        f'{kind} {name}': named[f'lvis/{kind}_{name}']
        for kind in KINDS
        for name in FIGURES
    }


def run_stratified_lvis_metric(folder: Path) -> dict[str, float]:
    """Run mmfrozen's metric with 100 resamples and written strata."""
    with tempfile.TemporaryDirectory() as out:
        return run_metric(
            folder, resamples=100, strata_file=f'{out}/strata.json'
        )


def run_without_bootstrap(folder: Path) -> dict[str, float]:
    """Run mmfrozen's metric with the official package's results only."""
    return run_metric(folder, resamples=0, strata_file=False)


def run_lvis_metric(folder: Path) -> dict[str, float]:
    """Run MMDetection's metric."""
    from mmdet.evaluation import LVISMetric

    metric = LVISMetric(str(folder / 'gt.json'), metric=list(KINDS))
    for sample in samples(folder):
        pred = sample.pop('pred_instances')
        result = {k: v.numpy() for k, v in pred.items() if k != 'masks'}
        result.update(img_id=sample['img_id'], masks=pred['masks'])
        # as its `process` does, which accepts only tensors as masks
        metric.results.append((dict(height=HEIGHT, width=WIDTH), result))
    named = metric.evaluate(len(metric.results))
    return {
        f'{kind} {name}': named[f'lvis/{kind}_{name}']
        for kind in KINDS
        for name in FIGURES
    }


RUN = {
    'StratifiedLVISMetric': run_stratified_lvis_metric,
    'without bootstrap': run_without_bootstrap,
    'LVISMetric': run_lvis_metric,
    'mmfrozen': run_mmfrozen,
    'hotcoco': run_hotcoco,
    'faster-coco-eval': run_faster_coco_eval,
    'lvis': run_lvis,
}


def run_engine(name: str, folder: Path) -> None:
    """Evaluate in this process; print time, memory and figures as JSON."""
    logging.disable(logging.WARNING)
    import mmfrozen.evaluation  # noqa: F401  (lets lvis run on this numpy)

    # the collector should not traverse a million objects of the imports
    gc.collect()
    gc.freeze()
    before = peak_bytes()
    begin = now()
    with contextlib.redirect_stdout(sys.stderr):
        figures = RUN[name](folder)
    seconds, cpu_seconds = now() - begin - sum(READING)
    record = dict(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        import_bytes=before,
        peak_bytes=peak_bytes(),
        figures=figures,
    )
    print(json.dumps(record))


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, folder: Path) -> dict | None:
    """Run an engine in a new process; return None if it fails."""
    command = [sys.executable, __file__, '--out', str(folder), '--run', name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
        print(f'{name}: not run ({reason})', file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Print one row per engine, for each number of images."""
    args = parse_args()
    if args.run:
        run_engine(args.run, Path(args.out))
        return 0
    found: dict[str, dict[int, dict]] = {name: {} for name in args.engines}
    for number in args.images:
        folder = Path(args.out) / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / 'bbox.json').exists():
            print(f'writing the files in {folder} ...', file=sys.stderr)
            write_files(args, number, folder)
        print(
            f'\n{number} images, {args.categories} categories, '
            f'{args.detections} detections an image, boxes and masks'
        )
        for way, names in WAYS.items():
            records = {
                name: record
                for name in names
                if name in args.engines and (record := measure(name, folder))
            }
            if records:
                print_way(way, records, names[-1])
            for name, record in records.items():
                found[name][number] = record
    if len(args.images) > 1:
        print_growth(found)
    return 0


def print_way(way: str, records: dict[str, dict], base: str) -> None:
    """Print one row per engine, with ratios to the last engine of the way.

    The ratio of CPU times is also valid if other processes use the machine.
    Memory is that above the imports, which a run needs anyway. The difference
    is the largest one of the 18 metrics.
    """
    print(
        f'\n{way:22}{"seconds":>9}{"CPU":>8}{"peak MiB":>10}'
        f'{"above imports":>15}{"speed":>8}{"CPU":>7}{"memory":>8}'
        f'{"difference":>12}'
    )
    for name, x in records.items():
        own = own_mib(x)
        row = f'{name:22}{x["seconds"]:9.1f}{x["cpu_seconds"]:8.1f}'
        row += f'{x["peak_bytes"] / 2**20:10.0f}{own:15.0f}'
        if base in records:
            other = records[base]
            gap = max(
                abs(x['figures'][k] - v) for k, v in other['figures'].items()
            )
            row += f'{other["seconds"] / x["seconds"]:7.1f}x'
            row += f'{other["cpu_seconds"] / x["cpu_seconds"]:6.1f}x'
            row += f'{own_mib(other) / own:7.1f}x{gap:12.1e}'
        print(row, flush=True)


def own_mib(record: dict) -> float:
    """Return the peak memory above that of the imports, in MiB."""
    return (record['peak_bytes'] - record['import_bytes']) / 2**20


def print_growth(found: dict[str, dict[int, dict]]) -> None:
    """Print straight lines fitted to time and memory, and their values for
    LVIS val."""
    print(
        f'\n{"growth with images":22}{"ms CPU each":>12}{"MiB each":>10}   '
        f'at {LVIS_VAL} images, by these lines'
    )
    for name, records in found.items():
        if len(records) > 1:
            sizes = list(records)
            cpu = [records[n]['cpu_seconds'] for n in sizes]
            mib = [own_mib(records[n]) for n in sizes]
            (a, b), (c, d) = (np.polyfit(sizes, y, 1) for y in (cpu, mib))
            print(
                f'{name:22}{1000 * a:12.2f}{c:10.3f}'
                f'{a * LVIS_VAL + b:12.0f} s CPU'
                f'{(c * LVIS_VAL + d) / 1024:8.1f} GiB'
            )


if __name__ == '__main__':
    sys.exit(main())
