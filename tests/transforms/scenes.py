"""Random images with objects, in MMDetection's result dicts."""

import copy

import numpy as np
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks

HEIGHT, WIDTH = 48, 64


def polygons(rng, height=HEIGHT, width=WIDTH):
    """One object of one or two polygons, some reaching over the border."""
    found = []
    for _ in range(rng.randint(1, 3)):
        count = rng.randint(3, 9)
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        radius = rng.uniform(2, height / 2, count)
        x = rng.uniform(0, width) + radius * np.cos(angle)
        y = rng.uniform(0, height) + radius * np.sin(angle)
        points = np.stack([np.clip(x, 0, width), np.clip(y, 0, height)], 1)
        found.append(points.round(2).ravel())
    return found


def scene(seed, num_objects, dtype=np.uint8, disjoint=True, ignored=0.0):
    """A loaded image: tight boxes around objects that are not empty."""
    rng = np.random.RandomState(seed)
    shapes = [polygons(rng) for _ in range(num_objects)]
    masks = PolygonMasks(shapes, HEIGHT, WIDTH).to_bitmap().masks
    masks = masks.astype(np.uint8)
    if disjoint:
        above = np.cumsum(masks[::-1], axis=0)[::-1] - masks
        masks = masks * (above == 0)
    masks = masks[masks.any((1, 2))]
    masks = BitmapMasks(masks, HEIGHT, WIDTH)
    count = len(masks)
    return dict(
        img=rng.randint(0, 255, (HEIGHT, WIDTH, 3)).astype(dtype),
        img_path=f'{seed}.jpg',
        img_shape=(HEIGHT, WIDTH),
        scale_factor=(1.0, 1.0),
        gt_bboxes=masks.get_bboxes('hbox'),
        gt_bboxes_labels=rng.randint(0, 5, count).astype(np.int64),
        gt_ignore_flags=rng.rand(count) < ignored,
        gt_masks=masks,
        my_own_key=['untouched'],
    )


def pair(seed, num_destination, num_source, **options):
    """An image with another one to paste from."""
    results = scene(seed, num_destination, **options)
    results['mix_results'] = [scene(seed + 1, num_source, **options)]
    return results


def with_polygons(seed, num_objects):
    """The same image twice: with polygons and with their bitmaps."""
    rng = np.random.RandomState(seed)
    found = scene(seed, 0)
    masks = PolygonMasks(
        [polygons(rng) for _ in range(num_objects)], HEIGHT, WIDTH
    )
    bitmaps = masks.to_bitmap()
    found.update(
        gt_bboxes=bitmaps.get_bboxes('hbox'),
        gt_bboxes_labels=np.arange(num_objects),
        gt_ignore_flags=np.zeros(num_objects, bool),
        gt_masks=masks,
    )
    return found, {**copy.deepcopy(found), 'gt_masks': bitmaps}


def freeze(value):
    """Everything in a result dict, to compare it later."""
    if isinstance(value, dict):
        return {key: freeze(one) for key, one in value.items()}
    if isinstance(value, list):
        return [freeze(one) for one in value]
    if isinstance(value, HorizontalBoxes):
        return freeze(value.tensor.numpy())
    if isinstance(value, PolygonMasks):
        return freeze(value.masks)
    if isinstance(value, BitmapMasks):
        return freeze(copy.deepcopy(value).masks)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return copy.deepcopy(value)
