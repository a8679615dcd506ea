"""Read result files of detectors in bounded memory."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from ..categories import ABSENT, check_order, ids_of_classes
from ..gc_paused import gc_paused
from ..memory_limit import memory_limit
from .detections import DetectionArrays
from .ground_truth import GroundTruth
from .masks import Masks

#: Suffixes of mmdet's dumps, whose labels are indices of classes.
PICKLES = ('.pkl', '.pickle')
#: Bytes of a result file that are parsed at a time: a piece that fits into
#: the CPU cache is parsed twice as fast.
PIECE_BYTES = 1 << 18
#: Maximum bytes of one result; a file with a larger result is refused.
MAX_RESULT_BYTES = 1 << 25
#: Bytes at the end of a piece in which the end of a result is searched first.
TAIL_BYTES = 1 << 12
BETWEEN = re.compile(rb'\}\s*,\s*\{')
#: Packages whose classes and functions a pickle may call; the calls return
#: inert objects here.
CALLED = ('collections', 'pathlib', 'numpy', 'torch', 'mmengine', 'mmdet')
#: Likewise for Python's builtins; ``_reconstructor`` creates objects in old
#: pickle protocols.
BUILTINS = ('set', 'frozenset', '_reconstructor')


@gc_paused()
def read_results(
    path: str | Path,
    gt: GroundTruth,
    ids: np.ndarray | None = None,
) -> DetectionArrays:
    """Read a result file of MMDetection, or results in COCO's format.

    Args:
        path: ``results.pkl`` of mmdet's ``DumpDetResults``, or a JSON list
            of results (COCO, LVIS), such as ``*.bbox.json`` and
            ``*.segm.json`` of mmdet's ``outfile_prefix``.
        gt: Ground truth, which maps labels to category ids.
        ids: From :func:`label_ids`, for a ``.pkl`` whose labels are not all
            categories of ``gt`` in the order of its file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not hold results.
    """
    return DetectionArrays.join(list(result_parts(path, gt, ids)))


def result_parts(
    path: str | Path,
    gt: GroundTruth,
    ids: np.ndarray | None = None,
    **options: Any,
) -> Iterator[DetectionArrays]:
    """Read a result file a few images at a time.

    Consecutive results of an image are in the same part.

    Args:
        path, gt, ids: See :func:`read_results`.
        options: Options of :meth:`DetectionArrays.from_dicts`, for JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'Results must be an existing file, got {str(path)!r}. Correct '
            'the path.'
        )
    if path.suffix in PICKLES:
        yield _from_samples(
            _read_pickle(path), label_ids(gt, None) if ids is None else ids
        )
        return
    first = 0
    try:
        for rows in _regroup_by_image(_json_chunks(path)):
            yield DetectionArrays.from_dicts(rows, first=first, **options)
            first += len(rows)
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(
            'Results must be a results.pkl of mmdet or a JSON list of '
            f'results in COCO format, got {str(path)!r} ({error}). Write '
            'them again.'
        ) from error


def _regroup_by_image(chunks: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """Regroup chunks so that consecutive results of an image stay together."""
    rest: list[Any] = []  # results of one image
    for chunk in chunks:
        end = len(chunk)
        last = _image(chunk[-1]) if chunk else None
        while end and _image(chunk[end - 1]) == last:
            end -= 1
        if not end and rest and _image(rest[0]) == last:
            rest += chunk
        else:
            yield rest + chunk[:end]
            rest = chunk[end:]
    yield rest


def _image(result: Any) -> Any:
    return result.get('image_id') if isinstance(result, dict) else None


def _json_chunks(path: Path) -> Iterator[list[Any]]:
    """Read a list of results a few at a time."""
    for text in _pieces(path):
        try:
            chunk = orjson.loads(text)
        except orjson.JSONDecodeError:  # orjson refuses NaN
            chunk = json.loads(text)
        if not isinstance(chunk, list):
            raise ValueError(f'a JSON {type(chunk).__name__}')
        yield chunk


def _pieces(path: Path) -> Iterator[bytes]:
    """Split a JSON list of results into several valid JSON lists.

    Keys and values of results have no braces, so ``}, {`` occurs only between
    two results.
    """
    rest = b''
    with open(path, 'rb') as stream:
        while text := stream.read(PIECE_BYTES):
            rest += text
            if len(rest) > MAX_RESULT_BYTES:
                raise ValueError(
                    f'a result of over {MAX_RESULT_BYTES:,} bytes'
                )
            for tail in (TAIL_BYTES, len(rest)):
                begin = max(len(rest) - tail, 0)
                cuts = [m.start() for m in BETWEEN.finditer(rest, begin)]
                if cuts:
                    break
            if cuts:
                yield rest[: cuts[-1] + 1] + b']'
                rest = b'[' + rest[cuts[-1] + 1 :].lstrip(b' \t\r\n,')
    yield rest


def label_ids(
    gt: GroundTruth, classes: Sequence[str] | None, *, by_class: bool = False
) -> np.ndarray:
    """Return the category id of each label of a detector.

    Args:
        gt: Ground truth.
        classes: Class names of the detector; None for all categories, in the
            order of the file.
        by_class: Whether labels follow the order of ``classes``, as with
            ``CheckedCocoDataset``; then classes may be missing in the file.
            Labels of MMDetection's data sets follow the order of the file.

    Returns:
        (classes,) int64; :data:`~mmfrozen.categories.ABSENT` for a class that
        is not in the file.

    Raises:
        ValueError: If a class is not a category, or if the classes are not in
            the order of the file although labels follow it.
    """
    ids = gt.category_ids[gt.file_order]
    if classes is None:
        return ids
    names = [gt.category_names[i] for i in gt.file_order]
    found = ids_of_classes(
        classes, ids.tolist(), names, gt.source, allow_missing=by_class
    )
    if not by_class:
        check_order(classes, names, gt.source)
    return np.array(found, np.int64)


def to_category_ids(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Map labels to category ids; ABSENT for absent categories.

    Raises:
        ValueError: If a label is out of range.
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(ids):
        raise ValueError(
            f'Labels must be 0 to {len(ids) - 1}, got {labels.max()} at '
            'most. Compare num_classes of the model with the categories of '
            'the annotation file.'
        )
    return ids[labels]


def _from_samples(samples: Any, ids: np.ndarray) -> DetectionArrays:
    """Convert mmdet's dumped data samples to detections."""
    parts = []
    for sample in samples if isinstance(samples, list) else [None]:
        try:
            pred = sample['pred_instances']
            columns = {
                key: np.asarray(pred[key])
                for key in ('bboxes', 'scores', 'labels')
            }
            image_id = int(sample['img_id'])
            mask_scores = pred.get('mask_scores')
            part, kept = from_predictions(
                image_id, **columns, ids=ids, mask_scores=mask_scores
            )
            if pred.get('masks') is not None:
                masks = [pred['masks'][i] for i in kept.tolist()]
                part = replace(part, masks=Masks.from_rles(masks))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                'results.pkl must hold data samples with img_id and '
                f'pred_instances (bboxes, scores, labels), got {error!r}. '
                "Write it with mmdet's DumpDetResults, tools/test.py --out."
            ) from error
        parts.append(part)
    return DetectionArrays.join(parts)


def from_predictions(
    image_id: int,
    bboxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    ids: np.ndarray,
    mask_scores: Any = None,
) -> tuple[DetectionArrays, np.ndarray]:
    """Convert the predictions for one image, without absent categories.

    Args:
        image_id: Id of the image.
        bboxes: (N, 4) corners x1, y1, x2, y2 in pixels.
        scores: (N,) scores.
        labels: (N,) labels.
        ids: From :func:`label_ids`.
        mask_scores: (N,) scores of the masks; None if they have none.

    Returns:
        K detections without masks, and their (K,) positions among the N.
    """
    categories = to_category_ids(np.asarray(labels, np.int64).reshape(-1), ids)
    kept = np.flatnonzero(categories != ABSENT)
    boxes = np.asarray(bboxes, np.float64).reshape(-1, 4)[kept]
    boxes[:, 2:] -= boxes[:, :2]
    if mask_scores is not None:
        mask_scores = np.asarray(mask_scores, np.float64)[kept]
    found = DetectionArrays(
        np.full(len(kept), image_id, np.int64),
        categories[kept],
        np.asarray(scores, np.float64).reshape(-1)[kept],
        boxes,
        mask_scores=mask_scores,
    )
    return found, kept


class _PickleClassMeta(type):
    """Metaclass of a pickle's classes that refuses calls of unlisted names.

    Pickles of newer protocols create objects without such a call.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        package, name = cls.__module__.partition('.')[0], cls.__name__
        if package not in CALLED and name not in BUILTINS:
            raise pickle.UnpicklingError(f'a call of {cls.__module__}.{name}')
        return cls.__new__(cls)


class _Placeholder(metaclass=_PickleClassMeta):
    """Placeholder for any object of a pickle that is not needed."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _TensorUnpickler(pickle.Unpickler):
    """Unpickler of tensors and plain values that runs no code from a file."""

    def find_class(self, module: str, name: str) -> Any:
        known: Mapping[str, Any] = {
            'collections.OrderedDict': OrderedDict,
            'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
            'torch.storage._load_from_bytes': _load_storage,
            '_codecs.encode': _load_bytes,  # bytes in mmengine's protocol 2
        }
        inert = type(name, (_Placeholder,), {'__module__': module})
        return known.get(f'{module}.{name}', inert)


def _load_bytes(text: str, encoding: str = 'latin1') -> bytes:
    return text.encode(encoding)


def _load_storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


def _read_pickle(path: str | Path) -> Any:
    try:
        with open(path, 'rb') as stream, memory_limit():
            return _TensorUnpickler(stream).load()
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(
            'results.pkl must hold tensors and plain values as mmdet dumps '
            f'them, got {str(path)!r} ({error!r}). Write it again with '
            "mmdet's DumpDetResults, tools/test.py --out."
        ) from error
