"""Collect counts and names of each category from the annotations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .inputs import Annotations
from .record import ClassGain, Estimate


@dataclass(frozen=True)
class ClassTable:
    """Names and counts of C categories.

    Attributes:
        ids: (C,) category ids.
        names: (C,) category names.
        frequencies: (C,) ``'r'``, ``'c'`` or ``'f'``.
        train_annotations: (C,) number of training annotations.
        train_images: (C,) number of training images with the category.
        val_images: (C,) number of validation images with it.
        val_instances: (C,) number of instances in them. Both leave out crowds
            and ignored instances.
    """

    ids: NDArray[np.int64]
    names: tuple[str, ...]
    frequencies: tuple[str, ...]
    train_annotations: NDArray[np.int64]
    train_images: NDArray[np.int64]
    val_images: NDArray[np.int64]
    val_instances: NDArray[np.int64]

    @classmethod
    def of(cls, annotations: Annotations) -> ClassTable:
        """Make the table from annotations."""
        gt, counts = annotations.ground_truth, annotations.counts
        counted = ~gt.is_crowd & ~gt.is_ignored
        num = len(gt.category_ids)
        pairs = np.stack([gt.categories[counted], gt.images[counted]])
        frequency = annotations.families[0]
        return cls(
            ids=gt.category_ids,
            names=gt.category_names,
            frequencies=tuple(frequency.names[i] for i in frequency.members),
            train_annotations=counts.instances,
            train_images=counts.images,
            val_images=np.bincount(np.unique(pairs, axis=1)[0], minlength=num),
            val_instances=np.bincount(pairs[0], minlength=num),
        )

    def row(
        self,
        index: int,
        ap: Estimate,
        control: Estimate | None = None,
        gain: Estimate | None = None,
    ) -> ClassGain:
        """Return the gain of a category, with its names and counts."""
        return ClassGain(
            category_id=int(self.ids[index]),
            name=self.names[index],
            frequency=self.frequencies[index],
            train_annotations=int(self.train_annotations[index]),
            train_images=int(self.train_images[index]),
            val_images=int(self.val_images[index]),
            val_instances=int(self.val_instances[index]),
            ap=ap,
            control=control,
            gain=gain,
        )
