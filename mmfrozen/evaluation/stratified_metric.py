"""Base class of the streaming, distributed LVIS and COCO metrics."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric
from mmdet.structures.mask import encode_mask_results
from mmengine.dist import (
    broadcast_object_list,
    collect_results,
    get_world_size,
    is_main_process,
)
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from ..categories import ABSENT
from ..errors import check_count, did_you_mean
from ..run_files import StrataRecord
from .bootstrap import RESAMPLES, image_weights
from .detections import DetectionArrays
from .error_strata import (
    calibrations,
    confusions,
    error_bins,
    error_gains,
)
from .ground_truth import GroundTruth
from .masks import Masks
from .matches import Matches, Protocol
from .options import check_metric, refuse_unknown
from .publish import show_strata, strata_path, write_matches, write_strata
from .result_files import from_predictions, label_ids
from .strata import default_bins, stated_counts, stratify, training_counts
from .stream_matcher import MAX_DETS, MatchedBatch, Matcher

#: Number of images that are matched at a time: a trade-off between memory and
#: speed.
BATCH_IMAGES = 256
SEVERAL = (
    'Evaluate each data set by its own metric: '
    "type='StratifiedMultiDatasetsEvaluator' with metrics and "
    'dataset_prefixes.'
)


class StratifiedMetric(CocoMetric):
    """Base of the streaming metrics with strata; see its two subclasses.

    Images are matched while the detector runs, on the same rank, and only
    the matches are kept; masks are freed every ``BATCH_IMAGES`` images.
    """

    protocol: Protocol
    #: Prefix of this metric's data set in a ``ConcatDataset``, and name of its
    #: folder in the work dir; set by StratifiedMultiDatasetsEvaluator.
    dataset_prefix: str | None = None

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | list[str] = 'bbox',
        *,
        train_ann_file: str | None = None,
        max_dets: int | None = None,
        resamples: int = RESAMPLES,
        confidence: float = 0.95,
        seed: int = 0,
        strata_file: str | bool = True,
        save_matches: bool = True,
        classwise: bool = False,
        metric_items: Sequence[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        **unknown: Any,
    ) -> None:
        self._name = name = type(self).__name__
        refuse_unknown(name, unknown, self._options())
        kinds = check_metric(name, metric)
        check_count(f'{name}.resamples', resamples, 0)
        check_count(f'{name}.max_dets', max_dets, optional=True)
        if not 0 < confidence < 1:
            raise ValueError(
                f'{name}.confidence must be between 0 and 1, got '
                f'{confidence!r}. Correct it.'
            )
        if format_only and outfile_prefix is None:
            raise ValueError(
                f'{name}.outfile_prefix must name the files to write with '
                'format_only, got None. Set it.'
            )
        super().__init__(
            metric=kinds,
            classwise=classwise,
            metric_items=metric_items,
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            backend_args=backend_args,
            collect_device=collect_device,
            prefix=prefix,
        )
        self.max_dets = max_dets or MAX_DETS[self.protocol]
        self.resamples = resamples
        self.confidence = confidence
        self.seed = seed
        self.strata_file = strata_file
        self.save_matches = save_matches
        self._load(ann_file, train_ann_file)
        if metric_items is not None:  # refuse wrong names now
            for matcher in self._matchers.values():
                self._pick(self._measure(matcher.join([])))
        self._clear()

    @classmethod
    def _options(cls) -> list[str]:
        """Return the names of all options, for suggestions in errors."""
        return [
            name
            for base in cls.__mro__
            if issubclass(base, StratifiedMetric)
            for name in inspect.signature(base.__init__).parameters
        ]

    def _load(self, ann_file: str | None, train_file: str | None) -> None:
        if not ann_file:
            raise ValueError(
                f'{self._name}.ann_file must be the annotation file of the '
                f'evaluated images, got {ann_file!r}. Set it.'
            )
        self.ann_file = ann_file
        with get_local_path(ann_file, self.backend_args) as path:
            self._all = GroundTruth.read(path)
        self._counts = stated_counts(self._all)
        # only rank 0 writes the strata and needs the counts
        if train_file is not None and is_main_process():
            with get_local_path(train_file, self.backend_args) as path:
                self._counts = training_counts(path, self._all)
        self._coco_api = self._all  # MMDetection only checks that it is set
        self._restrict_to(self._label_ids(None))

    def _restrict_to(self, ids: np.ndarray) -> None:
        """Restrict the evaluation to the categories of the detector.

        Args:
            ids: Category ids of its labels.
        """
        self.cat_ids = ids.tolist()  # MMDetection reads this attribute
        self.gt = self._all.only(ids)
        self.counts = None
        if self._counts is not None:
            keep = np.isin(self._all.category_ids, ids)
            self.counts = self._counts.only(keep)
        self._matchers = {
            kind: Matcher(
                self.gt,
                iou_type=kind,
                protocol=self.protocol,
                max_dets=self._num_matched(),
            )
            for kind in self.metrics
        }

    def _num_matched(self) -> int:
        """Return the ``max_dets`` of matching, enough for all metrics."""
        return self.max_dets

    def _label_ids(
        self, classes: Sequence[str] | None, *, by_class: bool = False
    ) -> np.ndarray:
        """Return the category id of each label of the data set."""
        return label_ids(self._all, classes, by_class=by_class)

    def _clear(self) -> None:
        self._waiting: list[DetectionArrays] = []
        self._new: list[int] = []
        self._seen: set[int] = set()
        self._num_repeated = 0
        self._parts: dict[str, list[MatchedBatch]] = {
            k: [] for k in self.metrics
        }
        self.results.clear()

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the data set: its classes."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict | None) -> None:
        self._dataset_meta = meta
        if isinstance(meta, list):  # of a ConcatDataset of different data sets
            meta = meta[0]
        self._check_single_dataset(meta or {})
        if meta and meta.get('classes'):
            by_class = bool(meta.get('labels_follow_classes'))
            self._restrict_to(
                self._label_ids(meta['classes'], by_class=by_class)
            )

    def _check_single_dataset(self, meta: dict) -> None:
        """Refuse a ``ConcatDataset`` of several annotation files.

        Its data sets may share image ids, by which images are distinguished.

        Raises:
            ValueError: If its length is not the number of annotated images.
        """
        ends = meta.get('cumulative_sizes') or [0]
        if len(ends) > 1 and ends[-1] != len(self._all.image_ids):
            raise ValueError(
                f'{self._name} must judge the {len(self._all.image_ids)} '
                f'images of {self.ann_file!r}, got a ConcatDataset of '
                f'{ends[-1]}. {SEVERAL}'
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect the predictions of a batch; match them in larger batches."""
        if self.outfile_prefix is not None:
            super().process(data_batch, data_samples)
        if self.format_only:
            return
        for sample in data_samples:
            image_id = int(sample['img_id'])
            if image_id in self._seen:  # padding by the sampler
                self._num_repeated += 1
                continue
            self._seen.add(image_id)
            self._new.append(image_id)
            self._waiting.append(self._columns(image_id, sample))
        if len(self._new) >= BATCH_IMAGES:
            self._flush()

    def _columns(self, image_id: int, sample: dict) -> DetectionArrays:
        pred = sample['pred_instances']
        columns = [_numpy(pred[k]) for k in ('bboxes', 'scores', 'labels')]
        detections, kept = from_predictions(
            image_id,
            *columns,
            ids=np.asarray(self.cat_ids),
            mask_scores=_numpy(pred.get('mask_scores')),
        )
        if 'segm' not in self.metrics or 'masks' not in pred:
            return detections
        # encoding is slow: encode only masks that will be compared
        wanted = self._matchers['segm'].is_judged(
            detections.image_ids, detections.category_ids
        )
        masks = _pack(pred['masks'], kept, wanted)
        return replace(detections, masks=masks)

    def _flush(self) -> None:
        if self._new:
            detections = DetectionArrays.join(self._waiting)
            places = None
            for kind, matcher in self._matchers.items():
                places = places or matcher.places(detections)
                part = matcher.match_batch(detections, self._new, places)
                self._parts[kind].append(part)
            self._waiting, self._new = [], []

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the matches of all ranks and compute the metrics.

        MMDetection removes the sampler's padding by counting the results;
        this metric recognises a repeated image by its id.

        Args:
            size: Number of images in the data set.

        Returns:
            Metrics by name, on all ranks.
        """
        if self.outfile_prefix is not None:
            self._write_results(size)
        outcome: list[Any] = [{}]
        if not self.format_only:
            self._flush()
            shares = collect_results(
                [(self._parts, self._seen, self._num_repeated)],
                get_world_size(),
                self.collect_device,
            )
            if is_main_process():
                try:
                    self._refuse_repeated(shares)
                    outcome = [self._publish([parts for parts, *_ in shares])]
                except (ValueError, OSError) as error:
                    outcome = [error]  # raise on all ranks
            broadcast_object_list(outcome)
        self._clear()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _write_results(self, size: int) -> None:
        """Write result files as MMDetection's metric does."""
        pairs = collect_results(self.results, size, self.collect_device)
        if is_main_process():
            known = [self._without_absent(p) for _, p in pairs]
            self.results2json(known, self.outfile_prefix)
            print_log(
                f'results are in {self.outfile_prefix}.*.json',
                logger='current',
            )

    def _without_absent(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return the result of an image without the detections of classes
        that the annotation file lacks."""
        keep = np.asarray(self.cat_ids)[result['labels']] != ABSENT
        kept = dict(result)
        for key, value in result.items():
            if isinstance(value, np.ndarray):
                kept[key] = value[keep]
            elif isinstance(value, list):  # masks
                kept[key] = list(compress(value, keep))
        return kept

    def _refuse_repeated(self, shares: list[tuple[Any, set, int]]) -> None:
        """Refuse more repeated image ids than padding explains.

        A sampler pads each rank but the first with one image at most.

        Raises:
            ValueError: If there are more repeated ids.
        """
        seen = [ids for _, ids, _ in shares]
        repeated = sum(number for *_, number in shares)
        repeated += sum(map(len, seen)) - len(set().union(*seen))
        if repeated >= len(shares):
            raise ValueError(
                f'{self._name} must evaluate images with unique ids, got '
                f'{repeated} whose ids had come before. {SEVERAL}'
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Refuse an evaluator that calls this instead of :meth:`evaluate`.

        Raises:
            TypeError: Always, as the results do not contain the matches.
        """
        raise TypeError(
            f'{self._name} must be evaluated by its own evaluate(), got '
            f'compute_metrics({len(results)} results). {SEVERAL}'
        )

    def _publish(
        self, shares: Sequence[dict[str, list[MatchedBatch]]]
    ) -> dict[str, float]:
        """Compute the metrics, write the strata and visualize them.

        Args:
            shares: Matched batches by ``'bbox'`` or ``'segm'``, one dict per
                rank.

        Returns:
            Metrics by name, with the prefix.
        """
        metrics: dict[str, float] = {}
        records = []
        strata = strata_path(self.strata_file, self.dataset_prefix)
        for kind, matcher in self._matchers.items():
            matches = matcher.join([p for x in shares for p in x[kind]])
            self._report_coverage(matches)
            named = self._pick(self._measure(matches))
            if matches.is_empty:
                named = dict.fromkeys(named, float('nan'))
            for name, value in named.items():
                metrics[f'{self.prefix}/{kind}_{name}'] = value
            kept = matches.limited(self.max_dets)
            records.append(self._stratify(kept))
            if strata is not None and self.save_matches:
                write_matches(kept, strata)
        names = [self.dataset_prefix, self.prefix]
        show_strata('/'.join(filter(None, names)), records)
        if strata is not None:
            write_strata(
                strata,
                str(self.ann_file),
                metrics,
                records,
                self._settings(),
            )
        return metrics

    def _settings(self) -> dict[str, int | None]:
        """Return the options that affect metrics but not their names."""
        return {'max_dets': self.max_dets}

    def _measure(self, matches: Matches) -> dict[str, float]:
        """Return metrics by MMDetection's names, without their prefixes."""
        raise NotImplementedError

    def _pick(self, metrics: dict[str, float]) -> dict[str, float]:
        """Select the metrics named in `metric_items`; all if it is None."""
        if self.metric_items is None:
            return metrics
        for item in self.metric_items:
            if item not in metrics:
                raise ValueError(
                    f'{self._name}.metric_items must be among '
                    f'{", ".join(metrics)}, got {item!r}'
                    f'{did_you_mean(item, metrics)}. Correct it.'
                )
        return {item: metrics[item] for item in self.metric_items}

    def _report_coverage(self, matches: Matches) -> None:
        seen, total = matches.is_evaluated.sum(), len(matches.image_ids)
        text = ''
        if matches.is_empty:
            text = (
                f'{matches.iou_type}: the detector found nothing in {seen} '
                'images: AP is NaN, not 0. Train longer, or lower '
                'score_thr in model.test_cfg.'
            )
        elif seen < total:
            text = (
                f'{matches.iou_type}: {seen} of the {total} images in '
                f'{self.ann_file} were evaluated; the others count as missed.'
            )
        if text:
            print_log(text, logger='current', level=logging.WARNING)

    def _stratify(self, matches: Matches) -> StrataRecord:
        number = len(matches.image_ids)
        bins = default_bins(self.gt, self.counts)
        weights = image_weights(number, self.resamples, self.seed)
        strata = stratify(matches, bins, weights, confidence=self.confidence)
        by_error = error_bins(matches, bins)
        errors = error_gains(matches, by_error)
        if matches.is_empty:
            nothing = dict(ap=None, ap_low=None, ap_high=None)
            strata = [replace(x, **nothing) for x in strata]
            errors = []
        frequency = [x for x in by_error if x.by == 'frequency']
        return StrataRecord(
            iou_type=matches.iou_type,
            protocol=matches.protocol,
            num_images=number,
            num_evaluated_images=int(matches.is_evaluated.sum()),
            num_detections=len(matches.scores),
            counts_from=None if self.counts is None else self.counts.source,
            resamples=self.resamples,
            confidence=self.confidence,
            strata=strata,
            max_dets=self.max_dets,
            seed=self.seed,
            annotations=self.gt.digest,
            errors=errors,
            confusions=confusions(matches, *frequency) if frequency else None,
            calibration=calibrations(matches, by_error),
        )


def _numpy(values: Any) -> Any:
    return values.cpu().numpy() if hasattr(values, 'cpu') else values


def _pack(masks: Any, kept: np.ndarray, wanted: np.ndarray) -> Masks:
    """Encode the masks of an image that are both kept and wanted.

    Args:
        masks: N masks, as an array or as RLE dicts.
        kept: (K,) positions of the kept detections.
        wanted: (K,) bool, whether a kept detection needs its mask.
    """
    places = kept[wanted].tolist()
    if hasattr(masks, 'detach'):
        chosen = encode_mask_results(masks[places].detach().cpu().numpy())
    else:
        chosen = [masks[i] for i in places]
    return Masks.from_rles(chosen, wanted)
