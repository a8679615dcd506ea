"""A multi-image dataset like MMDetection's, without its deep copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import MultiImageMixDataset

from ..errors import did_you_mean, require
from ..registry import DATASETS
from ..seeds import seeded


@DATASETS.register_module()
class CopyPasteDataset(MultiImageMixDataset):
    """MMDetection's ``MultiImageMixDataset`` for copy-paste on long tails.

    What MMDetection lacks: it deep-copies image and masks of every item before
    each transform, twice for the other image; it cannot pass the whole dataset
    to a transform before workers are forked; its random numbers depend on the
    number of workers. Here nothing is copied: if a transform returns None, the
    sample is loaded again. Transforms with a ``prepare`` method get the
    dataset once. With ``NumberedSampler`` a sample is the same for any number
    of workers.

    It takes any transforms that MMDetection's class takes, including Mosaic
    and MixUp.

    Args:
        dataset: Config of the wrapped dataset, which loads and jitters one
            image; also ``ClassBalancedDataset`` or ``ConcatDataset``.
        pipeline: Configs of the transforms that follow.
        skip_type_keys: Transform types in `pipeline` to skip.
        max_refetch: Maximum attempts per sample.
        lazy_init: Whether to load the dataset later, in ``full_init``.

    Example config::

        dataset=dict(
            type='mmfrozen.CopyPasteDataset',
            dataset=dict(type='CheckedLVISV1Dataset', ...),
            pipeline=[
                dict(type='mmfrozen.SimpleCopyPaste'),
                dict(type='PackDetInputs')])
    """

    def __init__(
        self,
        dataset: Any,
        pipeline: Sequence[dict],
        skip_type_keys: Sequence[str] | None = None,
        max_refetch: int = 15,
        lazy_init: bool = False,
    ) -> None:
        super().__init__(
            dataset, pipeline, skip_type_keys, max_refetch, lazy_init
        )
        names = [type(transform).__name__ for transform in self.pipeline]
        for key in skip_type_keys or ():
            require(
                key.rpartition('.')[2] in names,
                f'{type(self).__name__}.skip_type_keys',
                'types of its pipeline',
                key,
                f'It has {", ".join(names)}{did_you_mean(key, names)}.',
            )

    def full_init(self) -> None:
        """Load the annotations and pass the dataset to the transforms."""
        if self._fully_initialized:
            return
        super().full_init()
        for transform in self.pipeline:
            if hasattr(transform, 'prepare'):
                transform.prepare(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Load and mix one sample.

        Raises:
            RuntimeError: If every attempt returns None.
        """
        with seeded(index):
            for _ in range(self.max_refetch):
                results = self._attempt(index)
                if results is not None:
                    return results
        raise RuntimeError(
            f'{type(self).__name__} must get a sample from its pipelines, '
            f'got None {self.max_refetch} times for item {int(index)}. Find '
            'the transform that returns None.'
        )

    def _attempt(self, index: int) -> Any:
        results = self.dataset[index]
        skipped = {k.rpartition('.')[2] for k in self._skip_type_keys or ()}
        for transform in self.pipeline:  # a hook may replace it
            if results is None:
                return None
            if type(transform).__name__ in skipped:
                continue
            if hasattr(transform, 'get_indexes'):
                indexes = transform.get_indexes(self.dataset)
                if not isinstance(indexes, Sequence):
                    indexes = [indexes]
                others = [self.dataset[i] for i in indexes]
                if any(other is None for other in others):
                    return None
                results = {**results, 'mix_results': others}
            results = transform(results)
            if isinstance(results, dict):
                results.pop('mix_results', None)
        return results
