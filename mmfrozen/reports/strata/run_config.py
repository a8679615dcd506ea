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
from mmengine.config import Config
from mmengine.fileio import list_from_file

from ...evaluation.detections import DetectionArrays
from ...evaluation.ground_truth import GroundTruth
from ...evaluation.result_files import label_ids

#: Where MMDetection writes the config of a run, in its work dir.
CONFIGS = ('*/vis_data/config.py', '*.py')
#: What tells a config from other code, which is not to be run.
IS_CONFIG = re.compile(r'^model\s*=', re.MULTILINE)


def find_configs(run: Path, config: Path | None) -> list[Path]:
    """Configs that may tell the classes of a run.

    Args:
        run: A work dir, or a file, beside which nothing is looked for.
        config: What was named; None to look in the work dir.
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


def read_classes(
    configs: Sequence[Path], gt: GroundTruth
) -> tuple[str, ...] | None:
    """Classes of a detector, from the configs of its run.

    Returns:
        Names; None if these do not choose among the categories.

    Raises:
        ValueError: If a config cannot be read, if two disagree, or if the
            model tells another number of classes than there are.
    """
    found: dict[tuple[str, ...] | None, Path] = {}
    for path in configs:
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
            classes = _dataset_classes(cfg)
            numbers = set(_head_classes(cfg.get('model'), False))
        except Exception as error:  # whatever the code of a config leads to
            why = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise ValueError(
                f'A config must be one of MMDetection, got {str(path)!r} '
                f'({why}). Name the config of the run with --config.'
            ) from error
        number = len(label_ids(gt, classes))
        if numbers and number not in numbers:
            raise ValueError(
                f'The labels of results must be the {number} classes of '
                f'--ann, got a model of {min(numbers)} in {str(path)!r}. '
                'Name the config with its classes (metainfo) by --config, '
                'or results as json.'
            )
        found[classes] = path
    if len(found) > 1:
        first, second, *_ = map(str, found.values())
        raise ValueError(
            f'The configs of a run must have the same classes, got {first!r} '
            f'and {second!r}, which differ. Name one with --config.'
        )
    return next(iter(found), None)


def _dataset_classes(cfg: Config) -> tuple[str, ...] | None:
    """Classes of the tested data set, as MMDetection's data set takes them."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    dataset: Any = loader.dataset if loader else {}
    while 'dataset' in dataset or 'datasets' in dataset:  # in a wrapper
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    kind = dataset.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if kind is not None and issubclass(kind, LVISV05Dataset):
        return None  # which takes all categories of its file
    default = getattr(kind, 'METAINFO', {}).get('classes')
    classes = (dataset.get('metainfo') or {}).get('classes') or default
    if isinstance(classes, str):
        is_file = Path(classes).is_file()
        classes = list_from_file(classes) if is_file else [classes]
    return None if classes is None else tuple(classes)


def _head_classes(node: Any, in_head: bool) -> Iterator[int]:
    """``num_classes`` of the box heads of a model."""
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
    """Say it if labels of an unknown detector end before the categories."""
    found = np.isin(gt.category_ids[gt.file_order], detections.category_ids)
    last, total = int(np.flatnonzero(found).max()), len(found)
    if last == total - 1:
        return []
    return [
        f'labels of {name} end at {last}, those of --ann at {total - 1}; if '
        'the detector was trained on fewer classes, they stand for others: '
        'name its config with --config.'
    ]
