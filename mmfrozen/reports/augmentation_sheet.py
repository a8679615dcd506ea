"""Draw samples of a training pipeline on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path as MaskPath

from .page import draw_literally

#: Frequency groups of classes by number of training images, as in LVIS.
GROUPS = ('rare', 'common', 'frequent')
COLOURS = {
    'rare': '#ff2d55',
    'common': '#ffb000',
    'frequent': '#35b6ff',
    'ignored': '#d0d0d0',
}
COLUMNS = 4
TILE_INCHES = 3.2
DOTS_PER_INCH = 160
OPACITY = 0.35  # of mask fills


@dataclass(frozen=True)
class Sample:
    """An augmented image, reduced to at most the size of a tile.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) left, top, right, bottom in pixels of ``image``; None
            without axis-aligned boxes.
        labels: (N,) class labels.
        outlines: For each mask a tuple of (P, 2) points in pixels of
            ``image``; holes have the opposite orientation. None without masks.
        ignored: (N,) bool, objects that the losses ignore.
        name: Stem of the image file; empty if unknown.
    """

    image: np.ndarray
    boxes: np.ndarray | None
    labels: np.ndarray
    outlines: Sequence[Sequence[np.ndarray]] | None
    ignored: np.ndarray
    name: str


def group_of(num_images: int) -> str:
    """Return the LVIS group of a class by its number of training images."""
    return (
        'rare'
        if num_images <= 10
        else ('common' if num_images <= 100 else 'frequent')
    )


def sample_of(item: Any) -> Sample:
    """Convert the output of a pipeline, packed or not.

    Args:
        item: MMDetection's ``inputs`` with ``data_samples``, or its results
            dict with ``img``. Of several branches, the first is used.

    Returns:
        The sample, reduced to the pixels of a tile.

    Raises:
        ValueError: If the output is neither.
    """
    if isinstance(item, dict) and 'inputs' in item:
        inputs, found = item['inputs'], item['data_samples']
        if isinstance(inputs, dict):
            branch = next(iter(inputs))
            inputs, found = inputs[branch], found[branch]
        channels, path = np.asarray(inputs), found.get('img_path')
        parts = [
            _objects(found.get(f'{name}_instances'), name == 'ignored')
            for name in ('gt', 'ignored')
        ]
        parts = [part for part in parts if len(part[1])] or parts[:1]
    elif isinstance(item, dict) and 'img' in item:
        image, path = np.asarray(item['img']), item.get('img_path')
        channels = np.moveaxis(np.atleast_3d(image), -1, 0)
        parts = [_unpacked(item)]
    else:
        raise ValueError(
            'The training pipeline must return inputs or img, got '
            f'{type(item).__name__}. End it with PackDetInputs.'
        )
    scale = min(1, TILE_INCHES * DOTS_PER_INCH / channels.shape[2])
    boxes, labels, masks, ignored = zip(*parts, strict=True)
    outlines = [_outlines(found, scale) for found in masks]
    known = all(found is not None for found in boxes)
    return Sample(
        image=_as_rgb(channels, scale),
        boxes=np.concatenate(boxes) * scale if known else None,
        labels=np.concatenate(labels),
        outlines=None if None in outlines else sum(outlines, []),
        ignored=np.concatenate(ignored),
        name=Path(path).stem if path else '',
    )


def _objects(instances: Any, ignored: bool) -> Any:
    """Return boxes, labels, masks and ignore flags of packed instances."""
    get = instances.get if instances is not None else lambda _: None
    labels = get('labels')
    labels = np.zeros(0, int) if labels is None else np.asarray(labels)
    flags = np.full(len(labels), ignored)
    return _boxes(get('bboxes')), labels, get('masks'), flags


def _unpacked(results: dict[str, Any]) -> Any:
    labels = np.asarray(results.get('gt_bboxes_labels', ()), int)
    flags = results.get('gt_ignore_flags')
    return (
        _boxes(results.get('gt_bboxes')),
        labels,
        results.get('gt_masks'),
        np.zeros(len(labels), bool) if flags is None else np.asarray(flags),
    )


def _boxes(boxes: Any) -> np.ndarray | None:
    if boxes is None:
        return None
    boxes = np.asarray(getattr(boxes, 'tensor', boxes))
    return boxes if boxes.ndim == 2 and boxes.shape[1] == 4 else None


def _outlines(masks: Any, scale: float) -> list[Any] | None:
    """Trace the contours of masks at the size of a tile, one by one."""
    if masks is None:
        return None
    height, width = (
        max(1, round(size * scale)) for size in (masks.height, masks.width)
    )
    if len(masks) and scale < 1:
        masks = masks.resize((height, width))
    found = []
    for number in range(len(masks)):
        bitmap = masks[number].to_ndarray()[0].astype(np.uint8)
        lines = cv2.findContours(
            bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
        )[0]
        found.append(tuple(line.reshape(-1, 2) for line in lines))
    return found


def _as_rgb(channels: np.ndarray, scale: float) -> np.ndarray:
    """Convert BGR or grey channels of any value range to RGB.

    Args:
        channels: (C, H, W) of any dtype.
        scale: Factor of height and width, at most 1.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    channels = channels[2::-1] if len(channels) > 2 else channels[[0, 0, 0]]
    if scale < 1:
        height, width = (max(1, round(n * scale)) for n in channels.shape[1:])
        channels = np.stack(
            [
                cv2.resize(c, (width, height), interpolation=cv2.INTER_AREA)
                for c in channels
            ]
        )
    image = channels.transpose(1, 2, 0)
    if image.dtype != np.uint8:
        image = image.astype(np.float64)
        if image.min() < 0 or image.max() > 255 or image.max() <= 1:
            span = max(np.ptp(image), 1e-9)  # normalised
            image = (image - image.min()) / span * 255
        image = image.round().astype(np.uint8)
    return np.ascontiguousarray(image)


def draw_sheet(
    samples: Sequence[Sample],
    classes: Sequence[str],
    num_images: np.ndarray,
    title: str,
) -> Figure:
    """Draw samples with masks, boxes and names in their group's colour.

    Args:
        samples: Samples, one tile each.
        classes: Class names by label.
        num_images: (C,) number of training images with each class.
        title: Title of the sheet.

    Returns:
        The figure.
    """
    columns = min(COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    shapes = [
        sample.image.shape[0] / sample.image.shape[1] for sample in samples
    ]
    tall = TILE_INCHES * max(shapes) + 0.25
    size = columns * TILE_INCHES, rows * tall + 0.7
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    totals: dict[str, int] = {}
    for axis, sample in zip(axes, samples, strict=False):
        for group in draw_tile(axis, sample, classes, num_images):
            totals[group] = totals.get(group, 0) + 1
    for axis in axes[len(samples) :]:
        axis.axis('off')
    bounds = dict(rare='1 to 10', common='11 to 100', frequent='over 100')
    handles = [
        Patch(
            color=colour,
            label=f'{group}, {bounds[group]} images: {totals.get(group, 0)}'
            if group in bounds
            else f'{group}: {totals.get(group, 0)}',
        )
        for group, colour in COLOURS.items()
    ]
    figure.suptitle(title, fontsize=11)
    figure.legend(
        handles=handles, loc='outside lower center', ncols=4, fontsize=8
    )
    return draw_literally(figure)


def draw_tile(
    axis: Axes,
    sample: Sample,
    classes: Sequence[str],
    num_images: np.ndarray,
) -> list[str]:
    """Draw one sample.

    Returns:
        The group of each object, or ``'ignored'``.
    """
    groups = [
        'ignored' if ignored else _group(label, num_images)
        for label, ignored in zip(sample.labels, sample.ignored, strict=True)
    ]
    height, width = sample.image.shape[:2]
    axis.imshow(sample.image, interpolation='lanczos')
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axis.set(xticks=[], yticks=[])
    axis.set_title(f'{sample.name}   {len(groups)} objects', fontsize=7, pad=2)
    # rare objects are drawn last, to be on top, and labelled first
    order = sorted(range(len(groups)), key=lambda i: -_rank(groups[i]))
    for i in order if sample.outlines is not None else ():
        _draw_mask(axis, sample.outlines[i], COLOURS[groups[i]])
    if sample.boxes is None:
        return groups
    for i in order:
        left, top, right, bottom = sample.boxes[i]
        axis.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5),
                right - left,
                bottom - top,
                fill=False,
                linewidth=0.7,
                linestyle=':' if groups[i] == 'ignored' else '-',
                edgecolor=COLOURS[groups[i]],
            )
        )
    taken: list[tuple[float, float, float, float]] = []
    for i in reversed(order):
        text = _name(int(sample.labels[i]), classes)
        _write(axis, sample, sample.boxes[i], text, groups[i], taken)
    return groups


def _rank(group: str) -> int:
    return list(COLOURS).index(group)


def _group(label: int, num_images: np.ndarray) -> str:
    known = 0 <= label < len(num_images)
    return group_of(int(num_images[label])) if known else 'frequent'


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


def _draw_mask(
    axis: Axes, outlines: Sequence[np.ndarray], colour: str
) -> None:
    """Fill a mask transparently and draw its outline."""
    if outlines:
        rings = [MaskPath([*ring, ring[0]], closed=True) for ring in outlines]
        axis.add_patch(
            PathPatch(
                MaskPath.make_compound_path(*rings),
                facecolor=(colour, OPACITY),
                edgecolor=colour,
                linewidth=0.8,
            )
        )


def _write(
    axis: Axes,
    sample: Sample,
    box: np.ndarray,
    text: str,
    group: str,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write a name at its box, unless it would overlap another name."""
    height, width = sample.image.shape[:2]
    point = max(width, height) / (TILE_INCHES * 72)  # pixels per point
    text = text if len(text) <= 22 else f'{text[:21]}…'
    size = 5 * point * 0.58 * len(text), 5 * point * 1.3
    left = min(max(float(box[0]), 0), max(width - size[0], 0))
    top = max(float(box[1]) - size[1], 0)
    place = left, top, left + size[0], top + size[1]
    for other in taken:
        if (
            place[0] < other[2]
            and other[0] < place[2]
            and place[1] < other[3]
            and other[1] < place[3]
        ):
            return
    taken.append(place)
    axis.text(
        left,
        place[3],
        text,
        fontsize=5,
        color='white' if group == 'rare' else 'black',
        verticalalignment='bottom',
        clip_on=True,
        bbox=dict(facecolor=COLOURS[group], edgecolor='none', pad=0.5),
    )
