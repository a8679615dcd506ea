"""Draw samples of a training pipeline on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon, Rectangle

#: Classes by the number of training images that hold them, as in LVIS.
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
OPACITY = 0.35  # of masks


@dataclass(frozen=True)
class Sample:
    """One augmented image.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) left, top, right, bottom in pixels; None where boxes
            are of another kind.
        labels: (N,) classes.
        masks: (N, H, W) bool; None if there are none.
        ignored: (N,) bool, objects that the losses leave out.
        name: Of the image.
    """

    image: np.ndarray
    boxes: np.ndarray | None
    labels: np.ndarray
    masks: np.ndarray | None
    ignored: np.ndarray
    name: str


def group_of(num_images: int) -> str:
    """Tell LVIS's group of a class: rare up to 10 images, common to 100."""
    return (
        'rare'
        if num_images <= 10
        else ('common' if num_images <= 100 else 'frequent')
    )


def sample_of(item: Any) -> Sample:
    """Read what a pipeline returns, packed or not.

    Args:
        item: MMDetection's ``inputs`` with ``data_samples``, or its results
            dict with ``img``; of several branches the first is taken.

    Returns:
        The sample.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(item, dict) and 'inputs' in item:
        inputs, found = item['inputs'], item['data_samples']
        if isinstance(inputs, dict):
            branch = next(iter(inputs))
            inputs, found = inputs[branch], found[branch]
        image = np.asarray(inputs).transpose(1, 2, 0)
        kept = _objects(found.get('gt_instances'), image.shape, False)
        ignored = _objects(found.get('ignored_instances'), image.shape, True)
        path = found.get('img_path')
        parts = [part for part in (kept, ignored) if len(part[1])] or [kept]
    elif isinstance(item, dict) and 'img' in item:
        image, path = item['img'], item.get('img_path')
        parts = [_unpacked(item)]
    else:
        raise ValueError(
            'The training pipeline must return inputs or img, got '
            f'{type(item).__name__}. End it with PackDetInputs.'
        )
    boxes, labels, masks, ignored = zip(*parts, strict=True)
    return Sample(
        image=_as_rgb(image),
        boxes=_join(boxes),
        labels=np.concatenate(labels),
        masks=_join(masks),
        ignored=np.concatenate(ignored),
        name=Path(path).stem if path else '',
    )


def _join(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _objects(instances: Any, shape: tuple[int, ...], ignored: bool) -> Any:
    """Read one group of packed instances."""
    get = instances.get if instances is not None else lambda _: None
    labels = get('labels')
    labels = np.zeros(0, int) if labels is None else np.asarray(labels)
    boxes = _boxes(get('bboxes'))
    masks = get('masks')
    return (
        boxes,
        labels,
        _bitmaps(masks, len(labels), shape),
        np.full(len(labels), ignored),
    )


def _unpacked(results: dict[str, Any]) -> Any:
    labels = np.asarray(results.get('gt_bboxes_labels', ()), int)
    flags = results.get('gt_ignore_flags')
    return (
        _boxes(results.get('gt_bboxes')),
        labels,
        _bitmaps(results.get('gt_masks'), len(labels), results['img'].shape),
        np.zeros(len(labels), bool) if flags is None else np.asarray(flags),
    )


def _boxes(boxes: Any) -> np.ndarray | None:
    if boxes is None:
        return None
    boxes = np.asarray(getattr(boxes, 'tensor', boxes))
    return boxes if boxes.ndim == 2 and boxes.shape[1] == 4 else None


def _bitmaps(
    masks: Any, count: int, shape: tuple[int, ...]
) -> np.ndarray | None:
    if masks is None:
        return None
    found = masks.to_ndarray().astype(bool)
    whole = np.zeros((count, *shape[:2]), bool)
    height, width = found.shape[1:]
    whole[:, :height, :width] = found[:, : shape[0], : shape[1]]
    return whole


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """Make BGR of any range something to look at."""
    image = np.asarray(image)
    if image.ndim == 2 or image.shape[2] < 3:
        image = np.repeat(image.reshape(*image.shape[:2], -1)[..., :1], 3, 2)
    image = image[..., 2::-1]
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
        samples: One tile each.
        classes: Names by label.
        num_images: (C,) training images that hold each class.
        title: Of the sheet.

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
    return figure


def draw_tile(
    axis: Axes,
    sample: Sample,
    classes: Sequence[str],
    num_images: np.ndarray,
) -> list[str]:
    """Draw one sample.

    Returns:
        The group of each object.
    """
    groups = [
        'ignored' if ignored else _group(label, num_images)
        for label, ignored in zip(sample.labels, sample.ignored, strict=True)
    ]
    height, width = sample.image.shape[:2]
    axis.imshow(_with_masks(sample, groups), interpolation='lanczos')
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axis.set(xticks=[], yticks=[])
    axis.set_title(f'{sample.name}   {len(groups)} objects', fontsize=7, pad=2)
    # rare ones last, so that they are on top; and named first
    order = sorted(range(len(groups)), key=lambda i: -_rank(groups[i]))
    for i in order if sample.masks is not None else ():
        _outline(axis, sample.masks[i], groups[i])
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


def _with_masks(sample: Sample, groups: Sequence[str]) -> np.ndarray:
    """Tint masks."""
    image = sample.image.copy()
    if sample.masks is None:
        return image
    for mask, group in zip(sample.masks, groups, strict=True):
        colour = np.array(to_rgb(COLOURS[group])) * 255
        image[mask] = (image[mask] * (1 - OPACITY) + colour * OPACITY).astype(
            np.uint8
        )
    return image


def _outline(axis: Axes, mask: np.ndarray, group: str) -> None:
    """Draw a mask's outline along the outer pixels."""
    found = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )[0]
    for points in found:
        axis.add_patch(
            Polygon(
                points.reshape(-1, 2),
                closed=True,
                fill=False,
                linewidth=0.8,
                edgecolor=COLOURS[group],
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
    """Write a name at its box, where no other name is yet."""
    height, width = sample.image.shape[:2]
    point = max(width, height) / (TILE_INCHES * 72)  # pixels a point
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
