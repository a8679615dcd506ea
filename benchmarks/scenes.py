"""This module generates COCO-format images for benchmarks of transforms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HEIGHT, WIDTH = 480, 640  # COCO's most frequent size
SIZE = (1024, 1024)
CLASSES = tuple(f'class {i}' for i in range(40))


def blob(random: np.random.Generator) -> np.ndarray:
    """Return an irregular polygon with a radius of 10 to 120 pixels.

    Returns:
        (12 to 40, 2), corners x y in pixels, inside the image.
    """
    radius = np.exp(random.uniform(np.log(10), np.log(120)))
    count = int(random.integers(12, 41))
    angle = np.arange(count) / count * 2 * np.pi
    radii = radius * random.uniform(0.7, 1, count)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = random.uniform((0, 0), (WIDTH, HEIGHT)) + around * radii[:, None]
    return points.clip(0, (WIDTH, HEIGHT)).round(2)


def write_scenes(folder: Path, num_images: int, num_objects: int) -> None:
    """Write ``ann.json`` and JPEG files of blurred noise.

    Args:
        folder: Folder of the files; it is created if it does not exist.
        num_images: Number of images.
        num_objects: Number of objects in each image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(num_images):
        small = random.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        name = f'{i}.jpg'
        cv2.imwrite(str(folder / name), cv2.resize(small, (WIDTH, HEIGHT)))
        images.append(dict(id=i, file_name=name, height=HEIGHT, width=WIDTH))
        for _ in range(num_objects):
            annotations.append(_annotate(random, i, len(annotations)))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
    (folder / 'ann.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )


def _annotate(
    random: np.random.Generator, image_id: int, number: int
) -> dict[str, Any]:
    points = blob(random)
    while np.ptp(points, axis=0).min() < 4:  # almost outside of the image
        points = blob(random)
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    return dict(
        id=number,
        image_id=image_id,
        category_id=int(random.integers(len(CLASSES))),
        bbox=[*low.tolist(), *size.tolist()],
        area=float(size.prod()),
        iscrowd=0,
        segmentation=[points.ravel().tolist()],
    )


def load_pipeline(load: str) -> list[dict]:
    """Return large scale jitter as in the pack's configs, up to padding.

    Args:
        load: ``'LoadAnnotations'`` or ``'LoadCompactAnnotations'``.
    """
    return [
        dict(type='LoadImageFromFile'),
        dict(type=load, with_bbox=True, with_mask=True),
        dict(
            type='RandomResize',
            scale=SIZE,
            ratio_range=(0.1, 2.0),
            keep_ratio=True,
        ),
        dict(
            type='RandomCrop',
            crop_type='absolute',
            crop_size=SIZE,
            recompute_bbox=True,
            allow_negative_crop=True,
        ),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='Pad', size=SIZE, pad_val=dict(img=(114, 114, 114))),
    ]


def dataset(folder: Path, load: str) -> dict[str, Any]:
    """Return the config of a data set that loads and jitters the images."""
    return dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='ann.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
        pipeline=load_pipeline(load),
    )
