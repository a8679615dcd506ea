"""Random evaluations, and what the official packages make of them."""

import contextlib
import copy
import io
from unittest import mock

import numpy as np
from lvis import LVIS, LVISEval, LVISResults
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIZE = 128  # pixels, height and width
AREAS = ('all', 'small', 'medium', 'large')


def make_case(rng, *, images, categories, annotations, detections, levels):
    """Ground truth and results that meet every rule of both protocols.

    Corners lie on a coarse grid and scores on few levels, so that overlaps
    and scores are often equal; detections are often copies of annotations.

    Returns:
        Content of an annotation file, and a list of results with boxes and
        masks.
    """
    image_ids = rng.choice(100, images, replace=False).tolist()
    category_ids = (rng.choice(50, categories, replace=False) + 1).tolist()
    anns = []
    for index in range(annotations):
        box = _box(rng)
        if anns and rng.random() < 0.3:
            box = list(anns[-1]['bbox'])
        anns.append(
            dict(
                id=index + 1,
                image_id=int(rng.choice(image_ids)),
                category_id=int(rng.choice(category_ids)),
                bbox=box,
                # a few at the very bounds of the ranges
                area=float(rng.choice([box[2] * box[3] * 0.9, 32**2, 96**2])),
                iscrowd=int(rng.random() < 0.15),
                ignore=int(rng.random() < 0.15),
                segmentation=_rle(box, rng),
            )
        )
    results = []
    for _ in range(detections):
        source = rng.choice(anns) if anns and rng.random() < 0.7 else None
        box = list(source['bbox']) if source else _box(rng)
        if rng.random() < 0.5:
            box[0] += 4 * int(rng.integers(-1, 2))
        results.append(
            dict(
                image_id=source['image_id']
                if source
                else int(rng.choice(image_ids)),
                category_id=source['category_id']
                if source and rng.random() < 0.8
                else int(rng.choice(category_ids)),
                bbox=box,
                score=float(rng.integers(levels) + 1) / levels,
                segmentation=_rle(box, rng),
            )
        )
    content = dict(
        images=[
            dict(
                id=i,
                width=SIZE,
                height=SIZE,
                neg_category_ids=_some(rng, category_ids, 0.4),
                not_exhaustive_category_ids=_some(rng, category_ids, 0.2),
            )
            for i in image_ids
        ],
        categories=[
            dict(id=c, name=f'category {c}', frequency='rcf'[c % 3])
            for c in category_ids
        ],
        annotations=anns,
    )
    return content, results


def _some(rng, ids, share):
    return [i for i in ids if rng.random() < share]


def _box(rng):
    x, y = 4 * rng.integers(0, 16, 2)
    width, height = 4 * rng.integers(1, 17, 2)
    if rng.random() < 0.2:
        x, y, width, height = 0, 0, 108, 112
    return [float(v) for v in (x, y, width, height)]


def _rle(box, rng):
    mask = np.zeros((SIZE, SIZE), np.uint8, order='F')
    x, y, width, height = (int(v) for v in box)
    mask[max(y, 0) : y + height, max(x, 0) : x + width] = 1
    if rng.random() < 0.3:
        mask[:, max(x, 0) : x + width // 4] = 0
    rle = mask_utils.encode(mask)
    return dict(size=rle['size'], counts=rle['counts'].decode())


def results_for(results, iou_type):
    """Results as files hold them: masks come without boxes."""
    other = 'bbox' if iou_type == 'segm' else 'segmentation'
    return [
        {k: copy.deepcopy(v) for k, v in result.items() if k != other}
        for result in results
    ]


def lvis_tables(content, results, iou_type, max_dets):
    """Precision (10, 101, categories, 4), recall (10, categories, 4)."""
    gt = LVIS.__new__(LVIS)
    gt.logger = mock.Mock()
    gt.dataset = copy.deepcopy(content)
    gt._create_index()
    dt = LVISResults(gt, results_for(results, iou_type), max_dets)
    evaluation = LVISEval(gt, dt, iou_type)
    evaluation.run()
    tables = evaluation.eval
    return tables['precision'], tables['recall'], evaluation.results


def coco_tables(content, results, iou_type, max_dets):
    """As :func:`lvis_tables`."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(content)
        gt.createIndex()
        dt = gt.loadRes(results_for(results, iou_type))
        evaluation = COCOeval(gt, dt, iou_type)
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    tables = evaluation.eval
    return tables['precision'][..., 0], tables['recall'][..., 0], None


def per_category(precision, area, threshold=None):
    """(categories,) of a precision table, NaN for -1."""
    table = precision[..., AREAS.index(area)]
    table = np.where(table < 0, np.nan, table)
    if threshold is not None:
        table = table[threshold : threshold + 1]
    return table.mean(axis=(0, 1))
