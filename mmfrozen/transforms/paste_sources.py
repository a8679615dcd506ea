"""Sources of pasted objects, which draw the image whose objects are
pasted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet import registry as mmdet

from .. import registry
from ..errors import did_you_mean, is_number, require
from ..type_names import find_type
from .class_index import ClassIndex, index_classes

#: Indices of the images to load, and a label whose objects must be pasted, or
#: None.
Draw = tuple[list[int], int | None]


@registry.TASK_UTILS.register_module()
class UniformSources:
    """Sources that draw every item of the wrapped dataset with equal
    probability.

    Inside ``ClassBalancedDataset`` images of rare classes are repeated, so
    that they are also drawn more often here.

    Example config::

        sources=dict(type='mmfrozen.UniformSources')
    """

    def prepare(self, dataset: Any) -> None:
        """Do nothing; uniform draws need no index."""

    def draw(self, dataset: Any) -> Draw:
        """Draw one image."""
        return [np.random.randint(len(dataset))], None


@registry.TASK_UTILS.register_module()
class RepeatFactorSources:
    """Sources that draw images in proportion to their repeat factor (LVIS
    paper).

    What MMDetection lacks: ``ClassBalancedDataset`` rounds factors up, and
    balances sources only together with the target images.

    Args:
        oversample_thr: Fraction of images below which a class is favoured.

    Example config::

        sources=dict(type='mmfrozen.RepeatFactorSources', oversample_thr=1e-3)
    """

    def __init__(self, oversample_thr: float = 1e-3) -> None:
        require(
            is_number(oversample_thr) and 0 < oversample_thr <= 1,
            'RepeatFactorSources.oversample_thr',
            'a share of images above 0 and up to 1',
            oversample_thr,
            "1e-3 is LVIS's own.",
        )
        self.oversample_thr = oversample_thr

    def prepare(self, dataset: Any) -> None:
        """Index the classes of a dataset."""
        index = index_classes(dataset)
        self.places = index.places
        self.cumulative = cumulative(index.repeat_factors(self.oversample_thr))

    def draw(self, dataset: Any) -> Draw:
        """Draw one image."""
        return [int(self.places[draw_index(self.cumulative)])], None


@registry.TASK_UTILS.register_module()
class RareSources:
    """Sources that draw a class first, favouring rare ones, then an image that
    has it.

    All objects of the class in that image are pasted, plus a random subset of
    the others.

    Args:
        power: A class in n images is drawn in proportion to ``n ** -power``: 0
            draws all classes equally, 1 favours rare ones strongly.
        max_class_images: Draw only classes found in at most this number of
            images (LVIS: rare up to 10, common up to 100); None for all.
        classes: Names of the only classes to draw.

    Raises:
        ValueError: If no class is left, or one of `classes` is in no image.

    Example config::

        sources=dict(type='mmfrozen.RareSources', power=0.5)
    """

    def __init__(
        self,
        power: float = 0.5,
        *,
        max_class_images: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        check_classes('RareSources', power, max_class_images)
        self.power = power
        self.max_class_images = max_class_images
        self.classes = classes

    def prepare(self, dataset: Any) -> None:
        """Index the classes of a dataset."""
        self.index = index_classes(dataset)
        self.labels = wanted_labels(
            type(self).__name__,
            self.index,
            self.classes,
            self.max_class_images,
        )
        count = self.index.num_images[self.labels]
        self.cumulative = cumulative(count ** -float(self.power))

    def draw(self, dataset: Any) -> Draw:
        """Draw a class and one of its images."""
        label = int(self.labels[draw_index(self.cumulative)])
        images = self.index.images_of(label)
        image = images[np.random.randint(len(images))]
        return [int(self.index.places[image])], label


def build_sources(config: dict | None) -> Any:
    """Build sources from a config; None means uniform ones.

    Raises:
        ValueError: If no such class is registered.
    """
    config = config or dict(type='mmfrozen.UniformSources')
    kind = config.get('type') if isinstance(config, dict) else config
    known = ['mmfrozen.UniformSources', 'mmfrozen.RepeatFactorSources']
    known += ['mmfrozen.RareSources', 'mmfrozen.ObjectBank']
    require(
        isinstance(config, dict)
        and find_type(kind, mmdet.TASK_UTILS) is not None,
        'SimpleCopyPaste.sources',
        f'a config of {", ".join(known)}',
        config,
        f"Name one as dict(type='{known[0]}'){did_you_mean(kind, known)}.",
    )
    return mmdet.TASK_UTILS.build(config)


def check_classes(name: str, power: Any, max_class_images: Any) -> None:
    """Raise an error for invalid options of a choice of classes.

    Args:
        name: Name of the sources, for error messages.
        power: See :class:`RareSources`.
        max_class_images: See :class:`RareSources`.

    Raises:
        ValueError: If either is invalid.
    """
    require(
        is_number(power) and 0 <= power <= 10,
        f'{name}.power',
        'a number from 0 to 10',
        power,
        '0 makes classes equal, 0.5 favours rare ones.',
    )
    require(
        max_class_images is None or is_number(max_class_images),
        f'{name}.max_class_images',
        'a number of images',
        max_class_images,
        '10 takes the classes that LVIS calls rare.',
    )


def wanted_labels(
    name: str,
    index: ClassIndex,
    classes: Sequence[str] | None,
    max_class_images: int | None,
) -> np.ndarray:
    """Return the labels of the classes to draw.

    Args:
        name: Name of the sources, for error messages.
        index: Index of the dataset.
        classes: Names of classes; None for all.
        max_class_images: See :class:`RareSources`.

    Returns:
        (C,) labels, each found in at least one image.

    Raises:
        ValueError: If there are none, or if a named class is in no image.
    """
    count = index.num_images
    require(
        count.any(),
        name,
        'given a data set whose images have objects',
        'none',
        'Correct its annotations or classes.',
    )
    if classes is not None:
        return _named_labels(name, index, classes)
    most = len(index.places) if max_class_images is None else max_class_images
    labels = np.flatnonzero((count > 0) & (count <= most))
    require(
        len(labels) > 0,
        f'{name}.max_class_images',
        f'{count[count > 0].min()} or more for this data set, of '
        'which that is the rarest class',
        max_class_images,
        'Raise it.',
    )
    return labels


def _named_labels(
    name: str, index: ClassIndex, classes: Sequence[str]
) -> np.ndarray:
    classes = [classes] if isinstance(classes, str) else classes
    labels = [_label(name, index, one) for one in classes]
    without = [index.classes[i] for i in labels if not index.num_images[i]]
    require(
        not without and len(labels) > 0,
        f'{name}.classes',
        'classes that images have',
        without[0] if without else [],
        'Remove it, or add images of it.',
    )
    return np.unique(labels)


def _label(name: str, index: ClassIndex, one: str) -> int:
    require(
        one in index.classes,
        f'{name}.classes',
        "names of the data set's classes",
        one,
        f'Correct it{did_you_mean(one, index.classes)}.',
    )
    return index.classes.index(one)


def cumulative(weights: np.ndarray) -> np.ndarray:
    """Return the table for :func:`draw_index`: the cumulative distribution of
    weights."""
    total = np.cumsum(weights, dtype=np.float64)
    return total / total[-1]


def draw_index(table: np.ndarray) -> int:
    """Draw an index in proportion to its weight."""
    place = np.searchsorted(table, np.random.random_sample(), side='right')
    return int(min(place, len(table) - 1))
