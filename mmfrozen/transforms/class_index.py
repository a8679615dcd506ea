"""Index of the images that hold each class of a data set."""

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
        places: (M,) int64 index of every distinct image in the data set
            that was indexed; an image that ``ClassBalancedDataset`` repeats
            stands once.
        images: (K,) int64 rows of ``places``, those of label 0 first.
        starts: (C + 1,) where each label begins in ``images``.
        num_objects: (C,) objects of each class.
        classes: Names by label; empty if the data set has none.
    """

    places: np.ndarray
    images: np.ndarray
    starts: np.ndarray
    num_objects: np.ndarray
    classes: tuple[str, ...]

    @property
    def num_images(self) -> np.ndarray:
        """(C,) images that hold each class."""
        return np.diff(self.starts)

    def images_of(self, label: int) -> np.ndarray:
        """Rows of ``places`` whose images hold a class."""
        return self.images[self.starts[label] : self.starts[label + 1]]

    def repeat_factors(
        self, threshold: float, *, instance_aware: bool = False
    ) -> np.ndarray:
        """Repeat factors of LVIS (arXiv 1908.03195, section B).

        As MMDetection's ``ClassBalancedDataset``, without rounding up.

        Args:
            threshold: Share of images below which a class is repeated.
            instance_aware: Take the geometric mean of the share of images
                and the share of objects (arXiv 2305.08069) for it.

        Returns:
            (M,) one a distinct image, at least 1.
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
    """Go through the annotations of a data set once.

    Crowds and what is ignored are no objects of their class.

    Args:
        dataset: Of MMDetection; also inside ``ClassBalancedDataset``,
            ``RepeatDataset``, ``ConcatDataset`` or several of them.

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
    """Sort images by the classes that they hold.

    Args:
        labels: Of the objects of each image.
        places: Index of each image in its data set.
        classes: Names by label, or none.
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
        Its index in `dataset`, the innermost data set and its index there.
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
    """Names of the classes by label, or none."""
    metainfo = dataset.metainfo
    if isinstance(metainfo, list):  # ConcatDataset of unlike sets
        metainfo = metainfo[0]
    return tuple(metainfo.get('classes') or ())


def transforms_of(dataset: Any) -> tuple[Any, ...]:
    """Get the transforms of an innermost data set's own pipeline."""
    pipeline = getattr(dataset, 'pipeline', None)
    return tuple(getattr(pipeline, 'transforms', ()))
