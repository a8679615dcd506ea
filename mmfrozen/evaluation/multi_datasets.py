"""Evaluate several validation sets in one loop, each with its own metric."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from mmdet.evaluation.evaluator import multi_datasets_evaluator as mmdet
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from ..registry import EVALUATOR
from .stratified_metric import StratifiedMetric

NAME = 'StratifiedMultiDatasetsEvaluator'


@EVALUATOR.register_module()
class StratifiedMultiDatasetsEvaluator(mmdet.MultiDatasetsEvaluator):
    """Evaluator that gives each part of a ``ConcatDataset`` its own metric.

    MMDetection's ``MultiDatasetsEvaluator`` gives every sample to every metric
    and splits the results at the end, which a streaming metric does not
    support. Here a sample goes to the metric of its data set, by its position
    in the ``ConcatDataset``, which the sampler of a validation loop
    (``shuffle=False``) keeps. Any metric can be used.

    Metrics are named ``PREFIX/coco/bbox_mAP``. Strata of a data set are
    written to ``WORK_DIR/PREFIX/``. Metrics that are appended later (the
    ``--out`` of MMDetection's ``tools/test.py``) get every sample.

    Args:
        metrics: Configs of the metrics, one for each data set, in the order
            of ``ConcatDataset.datasets``.
        dataset_prefixes: Names of the data sets, in that order.

    Raises:
        ValueError: If the numbers of metrics, prefixes and data sets differ,
            before the loop begins.

    Example config::

        val_evaluator = dict(
            type='StratifiedMultiDatasetsEvaluator',
            metrics=[
                dict(type='StratifiedCocoMetric', ann_file='a/val.json'),
                dict(type='StratifiedCocoMetric', ann_file='b/val.json')],
            dataset_prefixes=['a', 'b'])
    """

    def __init__(self, metrics: Any, dataset_prefixes: Sequence[str]) -> None:
        super().__init__(metrics, list(dataset_prefixes))
        _check_prefixes(self.dataset_prefixes)
        number = len(self.dataset_prefixes)
        if len(self.metrics) != number:
            raise ValueError(
                f'{NAME}.metrics must be one metric for each of '
                f'the {number} dataset_prefixes, got {len(self.metrics)}. '
                'Add or remove some.'
            )
        _check_files(self.metrics)
        for metric, prefix in zip(
            self.metrics, self.dataset_prefixes, strict=True
        ):
            if isinstance(metric, StratifiedMetric):
                metric.dataset_prefix = prefix
        self._ends: list[int] = []
        self._num_processed = 0

    @property
    def dataset_meta(self) -> Any:
        """Meta information of the ``ConcatDataset``."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict | Sequence[dict] | None) -> None:
        self._dataset_meta = meta
        number = len(self.dataset_prefixes)
        # meta is a list if the data sets differ
        metas = [meta] * number if isinstance(meta, dict) else meta or [{}]
        self._ends = list(metas[0].get('cumulative_sizes', ()))
        if not len(metas) == len(self._ends) == number:
            raise ValueError(
                f'{NAME} must evaluate a ConcatDataset of {number} data sets '
                '(lazy_init=False), got '
                f'{len(self._ends) or "another data set"}. Name as many in '
                'dataset_prefixes and in the dataset of the loader.'
            )
        if not isinstance(meta, dict):
            _warn_of_unlike(metas)
        for metric, own in zip(self.metrics, metas, strict=False):
            metric.dataset_meta = {
                k: v for k, v in own.items() if k != 'cumulative_sizes'
            }
        for metric in self.metrics[number:]:
            metric.dataset_meta = meta

    def process(
        self, data_samples: Sequence[Any], data_batch: Any = None
    ) -> None:
        """Give each sample to the metric of its data set.

        Args:
            data_samples: Predictions for a batch.
            data_batch: The whole batch, as the loader returned it.
        """
        samples = [
            x.to_dict() if isinstance(x, BaseDataElement) else x
            for x in data_samples
        ]
        rank, world_size = get_dist_info()
        parts: dict[int, list[Any]] = {}
        for sample in samples:
            position = self._num_processed * world_size + rank
            self._num_processed += 1
            place = bisect_right(self._ends, position)
            parts.setdefault(place, []).append(sample)
        number = len(self.dataset_prefixes)
        for place, own in parts.items():
            if place < number:  # later samples are padding by the sampler
                self.metrics[place].process(data_batch, own)
        for metric in self.metrics[number:]:
            metric.process(data_batch, samples)

    def evaluate(self, size: int) -> dict[str, float]:
        """Evaluate each data set.

        Args:
            size: Number of images of all data sets.

        Returns:
            Metrics by name, with the prefix of the data set.
        """
        self._num_processed = 0
        number = len(self.dataset_prefixes)
        found: dict[str, float] = {}
        begin = 0
        for prefix, metric, end in zip(
            self.dataset_prefixes, self.metrics, self._ends, strict=False
        ):
            own = metric.evaluate(end - begin)
            found |= {f'{prefix}/{name}': value for name, value in own.items()}
            begin = end
        for metric in self.metrics[number:]:
            found |= metric.evaluate(size)
        return found


def _warn_of_unlike(metas: Sequence[dict]) -> None:
    first = metas[0]
    keys = sorted(
        {
            k
            for meta in metas
            for k in meta.keys() | first.keys()
            if meta.get(k) != first.get(k)
        }
    )
    print_log(
        f'The data sets of the ConcatDataset differ in {", ".join(keys)}. '
        "MMDetection's NumClassCheckHook and visualizer fail then: if one "
        f'detector serves all, set ignore_keys={keys} in the ConcatDataset.',
        logger='current',
        level=logging.WARNING,
    )


def _check_prefixes(prefixes: Sequence[Any]) -> None:
    """Refuse prefixes that are not unique names of folders.

    They are the names of folders in the work dir and prefixes of metrics.
    """
    for prefix in prefixes:
        is_name = isinstance(prefix, str) and prefix not in ('', '.', '..')
        if not is_name or len(PurePath(prefix).parts) != 1 or '/' in prefix:
            raise ValueError(
                f'{NAME}.dataset_prefixes must be names of '
                f'folders, got {prefix!r}. Use a plain name.'
            )
    if len(set(prefixes)) < len(prefixes):
        raise ValueError(
            f'{NAME}.dataset_prefixes must differ, got '
            f'{list(prefixes)!r}. Rename one.'
        )


def _check_files(metrics: Sequence[Any]) -> None:
    """Refuse metrics that would write strata and matches to one folder."""
    files = [getattr(metric, 'strata_file', None) for metric in metrics]
    folders = [Path(x).resolve().parent for x in files if isinstance(x, str)]
    if len(set(folders)) < len(folders):
        raise ValueError(
            f'{NAME}.metrics must have a strata_file in folders of their own, '
            f'got {files}. Remove it, and each writes to the folder of its '
            'prefix in the work dir.'
        )
