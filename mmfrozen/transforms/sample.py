"""Helpers that read, check and join the annotations in MMDetection's result
dicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes

from ..errors import require
from ..mask_crops import Crop
from .compact_masks import CompactMasks
from .painting import Piece

Results = dict[str, Any]


def boxes_of(results: Results) -> BaseBoxes:
    """Return the boxes; an array (``box_type=None``) becomes
    HorizontalBoxes."""
    boxes = results['gt_bboxes']
    if isinstance(boxes, BaseBoxes):
        return boxes
    return HorizontalBoxes(np.asarray(boxes, np.float32))


def ignore_flags_of(results: Results) -> np.ndarray:
    """Return the ignore flags, (N,) bool: crowds and other objects that losses
    ignore."""
    flags = results.get('gt_ignore_flags')
    if flags is None:
        return np.zeros(len(results['gt_bboxes']), bool)
    return np.asarray(flags, bool)


def other_image(results: Results) -> Results:
    """Return the result dict of the image that objects come from.

    Raises:
        ValueError: If there is not exactly one.
    """
    others = results.get('mix_results')
    require(
        others is not None and len(others) == 1,
        'SimpleCopyPaste',
        'given one other image in mix_results',
        None if others is None else len(others),
        'Put it into the pipeline of mmfrozen.CopyPasteDataset or '
        'MultiImageMixDataset, not into that of the data set inside.',
    )
    return others[0]


def check_sizes(source: Results, results: Results) -> None:
    """Raise an error unless two images have the same shape.

    Raises:
        ValueError: If their sizes or channels differ.
    """
    size, other = results['img'].shape, source['img'].shape
    require(
        size == other,
        'SimpleCopyPaste',
        f'given two images of one size (here {size})',
        other,
        "End the inner pipeline with dict(type='Pad', "
        f'size=({size[1]}, {size[0]})).',
    )


def join(
    result: Results,
    pieces: list[Piece],
    crops: list[Crop],
    kept: list[int],
    changed: set[int],
) -> None:
    """Set the annotations of the kept and the pasted objects.

    Args:
        result: A shallow copy of the image's dict; its entries are replaced.
        pieces: Pasted objects, which come last.
        crops: Visible masks of the existing objects.
        kept: Indices of existing objects that stay.
        changed: Indices of existing objects that get a new box.
    """
    size = result['img'].shape[:2]
    boxes = boxes_of(result)
    tensor = boxes.tensor.clone()
    if changed:
        rows = sorted(changed)
        seen = CompactMasks([crops[i] for i in rows], *size)
        tensor[rows] = seen.get_bboxes(type(boxes)).tensor.to(tensor.dtype)
    new = torch.from_numpy(np.stack([piece.box for piece in pieces]))
    joined = torch.cat((tensor[kept], new.to(tensor.dtype)))
    result['gt_bboxes'] = (
        type(boxes)(joined)
        if isinstance(result['gt_bboxes'], BaseBoxes)
        else joined.numpy()
    )
    labels = np.asarray(result['gt_bboxes_labels'])
    result['gt_bboxes_labels'] = np.concatenate(
        (labels[kept], np.array([p.label for p in pieces], labels.dtype))
    )
    if 'gt_ignore_flags' in result:
        flags = np.asarray(result['gt_ignore_flags'])
        result['gt_ignore_flags'] = np.concatenate(
            (flags[kept], np.zeros(len(pieces), flags.dtype))
        )
    if result.get('gt_masks') is not None:
        result['gt_masks'] = CompactMasks(
            [crops[i] for i in kept] + [p.crop for p in pieces], *size
        )
