"""This module plans which classes appear in which image, with long-tailed or
nearly uniform counts."""

from dataclasses import dataclass

import numpy as np

COPY_PROBABILITY = 0.2  # that an image has another instance of a class
LEFT_OUT_PROBABILITY = 0.06  # that one of several instances is not annotated
MAX_CLUTTER = 4
CLASSES_PER_IMAGE = 6  # mean of the flat split, similar to the long tail


@dataclass(frozen=True)
class ImagePlan:
    """The things to paint into one image.

    Attributes:
        annotated: A class index for each annotated instance.
        left_out: A class index for each unannotated instance; each also occurs
            in `annotated`.
        num_clutter: Number of things without a class.
    """

    annotated: tuple[int, ...]
    left_out: tuple[int, ...]
    num_clutter: int


def long_tail_counts(num_classes: int, num_images: int) -> np.ndarray:
    """Return the number of images that hold each class, most frequent first.

    They follow a Zipf-Mandelbrot distribution, chosen so that 1,000 images
    cover all three of LVIS's frequency groups; much smaller datasets lack some
    of the rarest classes.
    """
    rank = np.arange(num_classes)
    share = 0.36 * (24 / (rank + 24)) ** 2.3 - 0.002
    return _round_keeping_sum(share.clip(0) * num_images)


def flat_counts(num_classes: int, num_images: int) -> np.ndarray:
    """Return nearly equal image counts; the last class has half as many as the
    first."""
    weight = np.linspace(4 / 3, 2 / 3, num_classes)
    mean = CLASSES_PER_IMAGE * num_images / num_classes
    return _round_keeping_sum(weight * mean)


def _round_keeping_sum(counts: np.ndarray) -> np.ndarray:
    return np.diff(np.rint(np.cumsum(counts)), prepend=0).astype(int)


def plan_images(
    rng: np.random.Generator, counts: np.ndarray, num_images: int
) -> list[ImagePlan]:
    """Assign every class to exactly `counts[class]` images.

    Images with few classes so far are preferred, to avoid crowded images.
    """
    room = rng.uniform(0.5, 1.5, num_images) * counts.sum() / num_images
    classes: list[list[int]] = [[] for _ in range(num_images)]
    for index, count in enumerate(counts):
        # Gumbel noise on log weights: a weighted draw without replacement
        keys = np.log(np.maximum(room, 0.05)) + rng.gumbel(size=num_images)
        for image in np.argsort(-keys, kind='stable')[:count]:
            classes[image].append(index)
            room[image] -= 1
    return [_plan_image(rng, present) for present in classes]


def _plan_image(rng: np.random.Generator, present: list[int]) -> ImagePlan:
    annotated, left_out = [], []
    for index in present:
        copies = min(int(rng.geometric(1 - COPY_PROBABILITY)), 4)
        if copies > 1 and rng.random() < LEFT_OUT_PROBABILITY:
            left_out.append(index)
            copies -= 1
        annotated += [index] * copies
    num_clutter = int(rng.integers(0, MAX_CLUTTER + 1))
    return ImagePlan(tuple(annotated), tuple(left_out), num_clutter)
