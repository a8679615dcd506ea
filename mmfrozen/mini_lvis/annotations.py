"""Builders of the records in LVIS v1's annotation JSON."""

from collections import Counter
from typing import Any

import cv2
import numpy as np

from .materials import load_category_names

# contours pass through pixel centres, here 1/8 of a pixel inside the edge
UPSCALE = 4
RARE_MAX_IMAGES, COMMON_MAX_IMAGES = 10, 100
MIN_HOLE_PIXELS = 4
INFO = {
    'description': 'mini-LVIS, composed by mmfrozen; not the LVIS data set. '
    'synset is a placeholder (NAME.n.01) and def is empty.',
    'version': '1',
    'year': 2026,
    'contributor': 'mmfrozen',
    'url': '',
    'date_created': '',
}
LICENSES = [
    {
        'id': 1,
        'name': 'Composed from the works in mmfrozen/mini_lvis/materials/'
        'LICENSES.md',
        'url': '',
    }
]


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Outline a mask with polygons that have no holes.

    A polygon cannot have a hole, so the mask is cut into vertical strips
    through the middle of each hole; the strips' outlines go around it.

    Args:
        mask: (H, W) bool.

    Returns:
        Flat x, y lists in pixels from the upper left corner of the image.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    mask = mask[top : top + height, left : left + width].astype(np.uint8)
    cuts = [0, *_hole_columns(mask), width]
    polygons = []
    for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
        strip = np.zeros_like(mask)
        strip[:, start:stop] = mask[:, start:stop]
        large = strip.repeat(UPSCALE, 0).repeat(UPSCALE, 1)
        outlines, _ = cv2.findContours(
            large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        for outline in outlines:
            outline = cv2.approxPolyDP(outline, UPSCALE * 0.5, True)
            if len(outline) > 2:
                points = (outline + 0.5) / UPSCALE + (left, top)
                polygons.append(points.round(2).reshape(-1).tolist())
    return polygons


def _hole_columns(mask: np.ndarray) -> list[int]:
    outlines, tree = cv2.findContours(
        mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    columns = {
        int(outline[:, 0, 0].mean())
        for outline, (*_, parent) in zip(outlines, tree[0], strict=True)
        if parent >= 0 and cv2.contourArea(outline) > MIN_HOLE_PIXELS
    }
    return sorted(columns - {0})


def image_record(
    image_id: int, split: str, height: int, width: int
) -> dict[str, Any]:
    """Return the record of an image; mmdet derives its file from the end of
    `coco_url`."""
    return {
        'id': image_id,
        'height': height,
        'width': width,
        'license': 1,
        'date_captured': '',
        'flickr_url': '',
        'coco_url': 'http://images.cocodataset.org/'
        f'{split}2017/{image_id:012}.jpg',
        'neg_category_ids': [],
        'not_exhaustive_category_ids': [],
    }


def annotation_record(
    image_id: int, category_id: int, mask: np.ndarray
) -> dict[str, Any]:
    """Return the annotation of a visible mask; `id` is added when a split is
    complete."""
    return {
        'image_id': image_id,
        'category_id': category_id,
        'segmentation': mask_to_polygons(mask),
        'area': float(np.count_nonzero(mask)),
        'bbox': list(map(float, cv2.boundingRect(mask.astype(np.uint8)))),
    }


def category_records(
    annotations: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return the records of all 1,203 categories, with their counts in a
    training split."""
    instances = Counter(item['category_id'] for item in annotations)
    images = Counter(
        category
        for _, category in {
            (item['image_id'], item['category_id']) for item in annotations
        }
    )
    return [
        {
            'id': index,
            'name': name,
            'synset': f'{name}.n.01',
            'synonyms': [name],
            'def': '',
            'frequency': frequency_of(images[index]),
            'image_count': images[index],
            'instance_count': instances[index],
        }
        for index, name in enumerate(load_category_names(), start=1)
    ]


def frequency_of(image_count: int) -> str:
    """Return LVIS's frequency group: r up to 10 training images, c up to 100,
    else f."""
    if image_count <= RARE_MAX_IMAGES:
        return 'r'
    return 'c' if image_count <= COMMON_MAX_IMAGES else 'f'
