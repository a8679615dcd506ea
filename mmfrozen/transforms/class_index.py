"""An index of the images that hold each class of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ClassIndex:
    """Images by class, in a few flat arrays that forked workers share.

    Attributes:
        places: (M,) int64 index of every distinct image in the indexed
            dataset; an image that ``ClassBalancedDataset`` repeats is listed
            once.
        images: (K,) int64 rows of ``places``, grouped by label.
        starts: (C + 1,) first position of each label in ``images``.
        num_objects: (C,) number of objects of each class.
        classes: Names by label; empty if the dataset has none.
    """

    places: np.ndarray
    images: np.ndarray
    starts: np.ndarray
    num_objects: np.ndarray
    classes: tuple[str, ...]

    @property
    def num_images(self) -> np.ndarray:
        """Return the number of images that hold each class, (C,)."""
        return np.diff(self.starts)

    def images_of(self, label: int) -> np.ndarray:
        """Return the rows of ``places`` whose images hold a class."""
        return self.images[self.starts[label] : self.starts[label + 1]]

    def repeat_factors(
        self, threshold: float, *, instance_aware: bool = False
    ) -> np.ndarray:
        """Return the repeat factors of LVIS (arXiv 1908.03195, section B).

        They equal those of MMDetection's ``ClassBalancedDataset`` without
        rounding up, if no object is ignored.

        Args:
            threshold: Fraction of images below which a class is repeated.
            instance_aware: Use the geometric mean of the fraction of images
                and the fraction of objects (arXiv 2305.08069) instead.

        Returns:
            (M,), at least 1, one per distinct image.
        """
        count = self.num_images
        share = np.maximum(count, 1) / max(len(self.places), 1)
        if instance_aware:
            of_objects = np.maximum(self.num_objects, 1)
            share = np.sqrt(
                share * of_objects / max(self.num_objects.sum(), 1)
            )
        of_class = np.maximum(1, np.sqrt(threshold / share))
        factors = np.ones(len(self.places))
        np.maximum.at(factors, self.images, np.repeat(of_class, count))
        return factors


def index_classes(dataset: Any) -> ClassIndex:
    """Build an index from the annotations of a dataset.

    Crowds and ignored objects do not count.

    Args:
        dataset: A dataset of MMDetection, optionally inside
            ``ClassBalancedDataset``, ``RepeatDataset``, ``ConcatDataset`` or
            several of them.

    Returns:
        The index.
    """
    places, labels = [], []
    for place, base, number in distinct(dataset):
        places.append(place)
        instances = base.get_data_info(number).get('instances', ())
        labels.append(
            [x['bbox_label'] for x in instances if not x.get('ignore_flag')]
        )
    return index_labels(labels, places, class_names(dataset))


def index_labels(
    labels: Iterable[Sequence[int]],
    places: Sequence[int],
    classes: tuple[str, ...],
) -> ClassIndex:
    """Build an index from the labels of images.

    Args:
        labels: Labels of the objects of each image.
        places: Index of each image in its dataset.
        classes: Names by label, or empty.
    """
    counts = [Counter(found) for found in labels]
    lengths = np.array([len(count) for count in counts], np.int64)
    rows = np.repeat(np.arange(len(counts)), lengths)
    number = [n for count in counts for n in count.values()]
    label = np.array([x for count in counts for x in count], np.int64)
    by_label = np.argsort(label, kind='stable')
    length = max(len(classes), label.max(initial=-1) + 1)
    num_images = np.bincount(label, minlength=length)
    num_objects = np.bincount(label, number, length).astype(np.int64)
    return ClassIndex(
        places=np.array(places, np.int64),
        images=rows[by_label],
        starts=np.concatenate(([0], np.cumsum(num_images))),
        num_objects=num_objects,
        classes=classes,
    )


def distinct(dataset: Any) -> list[tuple[int, Any, int]]:
    """List every image once.

    Args:
        dataset: As in :func:`index_classes`.

    Returns:
        For each image: its index in `dataset`, the innermost dataset that
        holds it, and its index there.
    """
    if hasattr(dataset, 'repeat_indices'):  # ClassBalancedDataset
        first: dict[int, int] = {}
        for place, number in enumerate(dataset.repeat_indices):
            first.setdefault(number, place)
        inner = distinct(dataset.dataset)
        return [(first[i], base, n) for i, base, n in inner if i in first]
    if hasattr(dataset, 'datasets'):  # ConcatDataset
        found, start = [], 0
        for part in dataset.datasets:
            found += [(start + i, b, n) for i, b, n in distinct(part)]
            start += len(part)
        return found
    if hasattr(dataset, 'dataset'):  # RepeatDataset and other wrappers
        return distinct(dataset.dataset)
    return [(i, dataset, i) for i in range(len(dataset))]


def class_names(dataset: Any) -> tuple[str, ...]:
    """Return the names of the classes by label; empty if there are none."""
    metainfo = dataset.metainfo
    if isinstance(metainfo, list):  # ConcatDataset of different sets
        metainfo = metainfo[0]
    return tuple(metainfo.get('classes') or ())


def transforms_of(dataset: Any) -> tuple[Any, ...]:
    """Return the transforms of an innermost dataset's own pipeline."""
    pipeline = getattr(dataset, 'pipeline', None)
    return tuple(getattr(pipeline, 'transforms', ()))
