"""Read the classes of a detector from the config of its run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmdet.datasets  # noqa: F401  (registers the data sets)
import numpy as np
from mmdet.datasets import LVISV05Dataset
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file

from ...errors import one_line
from ...evaluation.detections import DetectionArrays
from ...evaluation.ground_truth import GroundTruth
from ...evaluation.result_files import label_ids
from ...type_names import find_type
from ..config_text import read_plain_config

#: Places of the config in a work dir of MMDetection.
CONFIGS = ('*/vis_data/config.py', '*.py')
#: Distinguishes configs from other Python files.
IS_CONFIG = re.compile(r'^model\s*=', re.MULTILINE)


def find_configs(run: Path, config: Path | None) -> list[Path]:
    """Return the configs that may define the classes of a run.

    Args:
        run: A work dir, or a result file, for which no config is found.
        config: The config of ``--config``; None to search the work dir.
    """
    if config is not None:
        return [config]
    for pattern in CONFIGS:
        found = [
            path
            for path in sorted(run.glob(pattern))
            if IS_CONFIG.search(path.read_text(errors='replace'))
        ]
        if found:
            return found
    return []


def read_label_ids(
    configs: Sequence[Path], gt: GroundTruth, named: Path | None
) -> np.ndarray | None:
    """Return the category ids of a detector's labels, from its configs.

    Args:
        configs: From :func:`find_configs`.
        gt: Ground truth of the evaluation.
        named: The config of ``--config``, which is executed as MMDetection
            does; one that was found in a work dir is only parsed.

    Returns:
        (classes,) int64, as from
        :func:`~mmfrozen.evaluation.result_files.label_ids`; None if the
        configs do not select classes.

    Raises:
        ValueError: If a config cannot be read, if two configs differ, or if
            the model has another number of classes.
    """
    found: dict[tuple[int, ...] | None, Path] = {}
    for path in configs:
        try:
            cfg = (
                ConfigDict(read_plain_config(path.read_text('utf-8')))
                if named is None
                else Config.fromfile(path, import_custom_modules=False)
            )
            classes, by_class = _dataset_classes(cfg)
            numbers = set(_head_classes(cfg.get('model'), False))
        except Exception as error:  # a config may raise anything
            raise ValueError(
                f'A config must be one of MMDetection, got {str(path)!r} '
                f'({one_line(error)}). Name the config of the run with '
                '--config.'
            ) from error
        ids = label_ids(gt, classes, by_class=by_class)
        number = len(ids)
        if numbers and number not in numbers:
            raise ValueError(
                f'The labels of results must be the {number} classes of '
                f'--ann, got a model of {min(numbers)} in {str(path)!r}. '
                'Name the config with its classes (metainfo) by --config, '
                'or results as json.'
            )
        found[None if classes is None else tuple(ids.tolist())] = path
    if len(found) > 1:
        first, second, *_ = map(str, found.values())
        raise ValueError(
            f'The configs of a run must have the same classes, got {first!r} '
            f'and {second!r}, which differ. Name one with --config.'
        )
    ids = next(iter(found), None)
    return None if ids is None else np.array(ids, np.int64)


def _dataset_classes(
    cfg: Config | ConfigDict,
) -> tuple[tuple[str, ...] | None, bool]:
    """Return the classes of the test set, and whether labels follow them."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    dataset: Any = loader.dataset if loader else {}
    while 'dataset' in dataset or 'datasets' in dataset:  # in a wrapper
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    kind = find_type(dataset.get('type'), DATASETS)
    if kind is not None and issubclass(kind, LVISV05Dataset):
        return None, False  # it uses all categories of its file
    default = getattr(kind, 'METAINFO', {}).get('classes')
    classes = (dataset.get('metainfo') or {}).get('classes') or default
    if isinstance(classes, str):
        is_file = Path(classes).is_file()
        classes = list_from_file(classes) if is_file else [classes]
    by_class = getattr(kind, 'labels_follow_classes', False)
    return None if classes is None else tuple(classes), by_class


def _head_classes(node: Any, in_head: bool) -> Iterator[int]:
    """Yield ``num_classes`` of the box heads of a model."""
    if isinstance(node, dict):
        if in_head and isinstance(node.get('num_classes'), int):
            yield node['num_classes']
        for key, value in node.items():
            yield from _head_classes(value, in_head or key == 'bbox_head')
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _head_classes(value, in_head)


def note_on_labels(
    name: str, detections: DetectionArrays, gt: GroundTruth
) -> list[str]:
    """Return a note if no detection has the last label of ``--ann``."""
    found = np.isin(gt.category_ids[gt.file_order], detections.category_ids)
    last, total = int(np.flatnonzero(found).max()), len(found)
    if last == total - 1:
        return []
    return [
        f'labels of {name} end at {last}, those of --ann at {total - 1}; if '
        'the detector was trained on fewer classes, they stand for others: '
        'name its config with --config.'
    ]
