"""Measure how often the 95 % confidence intervals of AP cover the true value.

Generates many evaluations of the same two detectors, each on new images from
one long-tailed distribution: class counts are proportional to 1 / rank,
objects of an image share a difficulty, and both detectors have errors at the
same objects. The true value is the mean of all these evaluations. The rule of
earlier releases is printed for comparison: percentiles of the same resamples,
shifted to the measured value.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmfrozen.evaluation.bootstrap import (
    image_weights,
    lost_variance,
    lost_variance_of_mean,
    student_interval,
)
from mmfrozen.evaluation.greedy import BITS, IOU_THRESHOLDS
from mmfrozen.evaluation.matches import Matches
from mmfrozen.evaluation.strata import mean

EXAMPLES = """examples:
  python benchmarks/interval_coverage.py --images 60 --classes 15
  python benchmarks/interval_coverage.py --images 300 --classes 200 \\
      --objects 10 --sets 300
"""
CONFIDENCE = 0.95
#: Least and largest number of images of a class, for each printed group.
CLASS_IMAGES = ((10, 19), (20, 49), (50, 10**9))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--images', type=int, default=150)
    parser.add_argument('--classes', type=int, default=15)
    parser.add_argument('--objects', type=float, default=6.0)
    parser.add_argument('--sets', type=int, default=800)
    parser.add_argument('--resamples', type=int, default=200)
    return parser.parse_args()


def logistic(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def evaluate(
    random: np.random.Generator, skills: np.ndarray, args: argparse.Namespace
) -> list[Matches]:
    """Return the matches of both detectors on the same new images."""
    share = 1 / np.arange(1, args.classes + 1)
    share /= share.sum()
    images = np.repeat(
        np.arange(args.images), random.poisson(args.objects, args.images)
    )
    classes = random.choice(args.classes, len(images), p=share)
    difficulty = random.normal(0, 1, args.images)
    shared = 0.8 * difficulty[images] + 0.7 * random.normal(size=len(images))
    found = []
    for skill in skills:
        quality = skill[classes] + shared
        quality += random.normal(0, 0.7, len(images))
        seen = random.random(len(images)) < logistic(quality + 0.5)
        iou = 0.72 + 0.08 * quality + 0.1 * random.normal(size=len(images))
        score = quality + random.normal(0, 0.8, len(images))
        numbers = random.poisson(np.exp(0.6 + 0.5 * difficulty))
        false = np.repeat(np.arange(args.images), numbers)
        columns = [
            np.concatenate(pair)
            for pair in (
                (images[seen], false),
                (
                    classes[seen],
                    random.choice(args.classes, len(false), p=share),
                ),
                (score[seen], random.normal(-0.8, 0.9, len(false))),
                (iou[seen], np.zeros(len(false))),
            )
        ]
        found.append(as_matches(*columns, images, classes, args))
    return found


def as_matches(
    images: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    ious: np.ndarray,
    gt_images: np.ndarray,
    gt_classes: np.ndarray,
    args: argparse.Namespace,
) -> Matches:
    order = np.lexsort((images, -scores, classes))
    fits = ious[order][:, None] >= IOU_THRESHOLDS
    matched = np.tile((fits * BITS).sum(1).astype(np.uint16), (4, 1))
    nothing = np.zeros(0, np.int32)
    return Matches(
        image_ids=np.arange(args.images),
        is_evaluated=np.ones(args.images, bool),
        category_ids=np.arange(args.classes),
        category_names=tuple(map(str, range(args.classes))),
        iou_type='bbox',
        protocol='coco',
        max_dets=100,
        categories=classes[order].astype(np.int32),
        images=images[order].astype(np.int32),
        scores=scores[order],
        ranks=np.zeros(len(order), np.int32),
        matched=matched,
        ignored=np.zeros_like(matched),
        unjudged_categories=nothing,
        unjudged_scores=np.zeros(0),
        gt_images=gt_images.astype(np.int32),
        gt_categories=gt_classes.astype(np.int32),
        gt_counted=np.ones((4, len(gt_images)), bool),
    )


@dataclass
class Figures:
    """One metric in many evaluations.

    Attributes:
        values: Measured value of each evaluation.
        ends: Ends of both kinds of interval in each evaluation, (kind, end,
            1).
        images: Number of images of the classes in each evaluation.
    """

    values: list[float]
    ends: list[np.ndarray]
    images: list[int]


def intervals(value: Any, draws: Any, images: Any, lost: Any) -> np.ndarray:
    """Return the ends of both kinds of interval, (kind, end, class)."""
    own = student_interval(value, draws, CONFIDENCE, images, lost)
    tail = 50 * (1 - CONFIDENCE)
    shift = value - np.nanmean(draws, axis=0)
    moved = np.nanpercentile(draws, (tail, 100 - tail), axis=0) + shift
    return np.array([own, moved])


def groups(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    place = np.arange(args.classes)
    third = args.classes // 3
    yield 'all classes', place >= 0
    yield 'rare third', place >= args.classes - third
    yield 'frequent third', place < third


def main() -> None:
    args = parse_args()
    np.seterr(all='ignore')
    fixed = np.random.default_rng(0)
    skill = fixed.normal(0, 0.7, args.classes)
    skills = np.stack([skill, skill + fixed.normal(0.1, 0.3, args.classes)])
    random = np.random.default_rng(1)
    whole: dict[tuple[str, str], Figures] = {}
    single: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for number in range(args.sets):
        runs = evaluate(random, skills, args)
        weights = image_weights(args.images, args.resamples, number)
        values = [run.ap_per_class() for run in runs]
        draws = [run.ap_per_class(image_weights=weights) for run in runs]
        for what, value, draw in (
            ('AP', values[0], draws[0]),
            ('difference', values[1] - values[0], draws[1] - draws[0]),
        ):
            counts = runs[0].num_gt_images()
            lost = lost_variance(draw, counts)
            for name, members in groups(args):
                images = runs[0].num_images_of(members)
                point = np.array([mean(value[members])])
                sample = mean(draw[:, members])[:, None]
                row = whole.setdefault((what, name), Figures([], [], []))
                row.values.append(float(point[0]))
                ends = intervals(
                    point,
                    sample,
                    np.array([images]),
                    lost_variance_of_mean(lost[members]),
                )
                row.ends.append(ends)
                row.images.append(images)
            ends = intervals(value, draw, counts, lost)
            single.setdefault(what, []).append((value, ends, counts))
    print(
        f'{args.sets} sets of {args.images} images, {args.classes} classes; '
        f'intervals of {CONFIDENCE:.0%}; standard error of a share '
        f'{100 * np.sqrt(0.05 * 0.95 / args.sets):.1f}\n'
    )
    print(f'{"covered, %":28}{"images":>8}{"Student":>9}{"percentile":>12}')
    for (what, name), row in whole.items():
        ends = np.array(row.ends)[..., 0]
        values = np.array(row.values)
        show(f'{what}, {name}', np.mean(row.images), values.mean(), ends)
    for what, rows in single.items():
        values, ends, counts = map(np.array, zip(*rows, strict=True))
        truth = np.broadcast_to(np.nanmean(values, axis=0), values.shape)
        ends = np.moveaxis(ends, -1, 1)
        for low, high in CLASS_IMAGES:
            own = (counts >= low) & (counts <= high) & np.isfinite(values)
            if own.sum() >= args.sets:
                label = f'{what}, one class'
                show(label, counts[own].mean(), truth[own], ends[own])


def show(label: str, images: float, truth: Any, ends: np.ndarray) -> None:
    """Print a row; ends are (N, kind, end)."""
    truth = np.reshape(truth, (-1, 1))
    covered = (ends[..., 0] <= truth) & (truth <= ends[..., 1])
    student, percentile = 100 * covered.mean(0)
    print(f'{label:28}{images:8.0f}{student:9.1f}{percentile:12.1f}')


if __name__ == '__main__':
    main()
