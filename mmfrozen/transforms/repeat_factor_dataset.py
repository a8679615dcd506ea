"""A dataset wrapper for instance-aware repeat factor sampling (IRFS)."""

from __future__ import annotations

from typing import Any

from mmengine.dataset import ClassBalancedDataset

from ..registry import DATASETS
from .class_index import class_names, index_labels


@DATASETS.register_module()
class InstanceAwareRepeatFactorDataset(ClassBalancedDataset):
    """MMEngine's ``ClassBalancedDataset`` with the repeat factors of IRFS.

    Yaman et al., "Instance-Aware Repeat Factor Sampling for Long-Tailed Object
    Detection" (arXiv 2305.08069). What MMEngine lacks: its factor of a class,
    max(1, sqrt(t / f)), depends on the fraction f of images that hold it, but
    not on the number of its objects. Here f is the geometric mean of that
    fraction and of the class's fraction of all objects. An image has the
    largest factor of its classes, and is repeated that many times, rounded up,
    in the order of the dataset: the images of an epoch do not depend on the
    number of workers or processes.

    Args:
        dataset: Config of the wrapped dataset.
        oversample_thr: Threshold t; 1e-3 for LVIS.
        lazy_init: Whether to load the dataset later, in ``full_init``.

    Example config::

        dataset=dict(
            type='mmfrozen.InstanceAwareRepeatFactorDataset',
            oversample_thr=1e-3,
            dataset=dict(type='CheckedLVISV1Dataset', ...))
    """

    def _get_repeat_factors(
        self, dataset: Any, repeat_thr: float
    ) -> list[float]:
        places = range(len(dataset))
        labels = map(dataset.get_cat_ids, places)  # does not unpickle polygons
        index = index_labels(labels, places, class_names(dataset))
        factors = index.repeat_factors(repeat_thr, instance_aware=True)
        return factors.tolist()  # type: ignore[no-any-return]
