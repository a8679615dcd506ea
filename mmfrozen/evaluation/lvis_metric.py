"""Stratified LVIS metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from ..categories import check_positions
from ..errors import check_count
from ..registry import METRICS
from .matches import Matches
from .strata import frequency_bins, mean
from .stratified_metric import StratifiedMetric

SIZES = {'s': 'small', 'm': 'medium', 'l': 'large'}


@METRICS.register_module()
class StratifiedLVISMetric(StratifiedMetric):
    """LVIS evaluation, stratified, streaming, not rounded.

    MMDetection's ``LVISMetric`` calls the official package, which takes
    minutes and tens of gigabytes. It keeps every mask until the end; its
    settings for images and proposals have no effect; it rounds to 3 digits;
    it takes the area of a mask detection from its box; it removes the padding
    of uneven shards by position; with ``save_best``, an empty result ends the
    training with an error. It has no bins beyond r, c and f, no confidence
    intervals and no "AP fixed".

    Metrics have MMDetection's names: ``lvis/bbox_AP``, ``AP50``, ``AP75``,
    ``APs``, ``APm``, ``APl``, ``APr``, ``APc``, ``APf``, likewise ``segm_``,
    and ``AR@300``, ``ARs@300``, ``ARm@300``, ``ARl@300``; ``AP_fixed`` and
    ``APr_fixed``, ``APc_fixed``, ``APf_fixed``. They are NaN without ground
    truth.

    Args:
        ann_file: Annotations of the evaluated images.
        metric: ``'bbox'``, ``'segm'``, or a list of both.
        dets_per_class: Maximum number of detections per category for
            "AP fixed"; None leaves "AP fixed" out. It is meaningful only if
            the detector returns more than ``max_dets`` detections per image:
            ``model.test_cfg.rcnn`` with ``score_thr=0`` and a large
            ``max_per_img``.
        train_ann_file: Training annotations, for the bins; None for
            ``image_count`` and ``instance_count`` in ``ann_file``.
        max_dets: Maximum number of detections per image; None for LVIS's
            300.
        resamples: Number of bootstrap resamples for the confidence
            intervals; 0 for no intervals.
        confidence: Confidence level of the intervals.
        seed: Seed of the bootstrap.
        strata_file: File for the strata; True for ``WORK_DIR/strata.json``
            of the current run, False for none.
        save_matches: Whether to also write ``matches.bbox.npz`` and
            ``matches.segm.npz`` to the folder of the strata, for comparing
            runs image by image.
        classwise: Whether to log the AP of each category.
        metric_items: Names of the only metrics to report, such as
            ``['AP', 'APr']``; None for all.
        format_only: Whether to only write result files, without evaluation.
        outfile_prefix: Prefix of the result files ``PREFIX.bbox.json`` and
            ``PREFIX.segm.json``; None for no files.
        backend_args: Passed to MMEngine's file reading.
        collect_device: As for MMDetection's metrics.
        prefix: Prefix of the metrics' names.

    Example config::

        val_evaluator = dict(
            type='StratifiedLVISMetric',
            ann_file='data/lvis_v1/annotations/lvis_v1_val.json',
            metric=['bbox', 'segm'])
    """

    default_prefix = 'lvis'
    protocol = 'lvis'

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | list[str] = 'bbox',
        *,
        dets_per_class: int | None = 10_000,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        check_count(f'{name}.dets_per_class', dets_per_class, optional=True)
        self.dets_per_class = dets_per_class
        super().__init__(ann_file, metric, **options)

    def _num_matched(self) -> int:
        return self.max_dets if self.dets_per_class is None else -1

    def _settings(self) -> dict[str, int | None]:
        return {**super()._settings(), 'dets_per_class': self.dets_per_class}

    def _label_ids(
        self, classes: Sequence[str] | None, *, by_class: bool = False
    ) -> np.ndarray:
        """Return category ids in the order of the file.

        MMDetection's LVIS labels are positions in this order.
        """
        gt = self._all
        if classes is not None:
            names = [gt.category_names[i] for i in gt.file_order]
            check_positions(list(classes), names, gt.source)
        return super()._label_ids(None)

    def _measure(self, matches: Matches) -> dict[str, float]:
        kept = matches.limited(self.max_dets)
        per_class = kept.ap_per_class()
        named = {'AP': mean(per_class)}
        for iou in (50, 75):
            named[f'AP{iou}'] = mean(kept.ap_per_class(iou=iou / 100))
        for letter, area in SIZES.items():
            named[f'AP{letter}'] = mean(kept.ap_per_class(area=area))
        named |= self._by_frequency(per_class, '')
        top = f'@{self.max_dets}'
        named[f'AR{top}'] = mean(kept.recall_per_class())
        for letter, area in SIZES.items():
            named[f'AR{letter}{top}'] = mean(kept.recall_per_class(area))
        if self.dets_per_class is not None:
            fixed = matches.limited_per_category(
                self.dets_per_class
            ).ap_per_class()
            named['AP_fixed'] = mean(fixed)
            named |= self._by_frequency(fixed, '_fixed')
        if self.classwise and not matches.is_empty:
            log_classes(kept, per_class)
        return {name: float(value) for name, value in named.items()}

    def _by_frequency(
        self, per_class: np.ndarray, suffix: str
    ) -> dict[str, float]:
        bins = frequency_bins(self.gt)
        assert bins is not None  # the matcher requires frequencies
        return {
            f'AP{name}{suffix}': mean(per_class[bins.members == index])
            for index, name in enumerate(bins.names)
        }


def log_classes(matches: Matches, per_class: np.ndarray) -> None:
    """Log the AP of each category in one table."""
    instances = matches.num_instances()
    lines = [
        f'{name:30} {number:9} {100 * ap:7.2f}'
        for name, number, ap in zip(
            matches.category_names, instances, per_class, strict=True
        )
    ]
    head = f'{"category":30} instances {matches.iou_type + " AP":>7}'
    print_log('\n'.join(['', head, *lines]), logger='current')
