"""A contact sheet of a dataset, drawn from its annotation file."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NUM_IMAGES, COLUMNS = 12, 4
WIDTH = 512  # pixels of an image on the sheet
GAP = 8  # pixels between images
MASK_OPACITY = 0.2


def contact_sheet(root: Path) -> np.ndarray:
    """Draw the first training images with masks, boxes and class names.

    Args:
        root: Folder of the dataset.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    path = Path(root) / 'annotations/lvis_v1_train.json'
    content = json.loads(path.read_text())
    labels = {
        item['id']: f'{item["name"]} ({item["frequency"]})'
        for item in content['categories']
    }
    tiles = []
    for image in content['images'][:NUM_IMAGES]:
        pixels = cv2.imread(
            str(Path(root, *image['coco_url'].split('/')[-2:]))
        )
        found = [
            item
            for item in content['annotations']
            if item['image_id'] == image['id']
        ]
        tiles.append(_draw(pixels, found, labels))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    return np.vstack(
        [
            np.hstack(tiles[start : start + COLUMNS])
            for start in range(0, len(tiles), COLUMNS)
        ]
    )


def _draw(
    pixels: np.ndarray, found: list[dict[str, Any]], labels: dict[int, str]
) -> np.ndarray:
    scale = WIDTH / pixels.shape[1]
    kind = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    tile = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=kind)
    for item in found:
        colour = _colour_of(item['category_id'])
        outlines = [
            np.rint(np.reshape(polygon, (-1, 2)) * scale).astype(np.int32)
            for polygon in item['segmentation']
        ]
        painted = cv2.fillPoly(tile.copy(), outlines, colour)
        tile = cv2.addWeighted(
            painted, MASK_OPACITY, tile, 1 - MASK_OPACITY, 0
        )
        cv2.polylines(tile, outlines, True, colour, 1, cv2.LINE_AA)
        left, top, width, height = np.rint(np.array(item['bbox']) * scale)
        box = int(left), int(top), int(width), int(height)
        cv2.rectangle(tile, box, colour, 1)
    for item in found:
        _write(tile, labels[item['category_id']], item, scale)
    return cv2.copyMakeBorder(
        tile, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )


def _write(
    tile: np.ndarray, text: str, item: dict[str, Any], scale: float
) -> None:
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    left, top = np.rint(np.array(item['bbox'][:2]) * scale).astype(int)
    left = int(np.clip(left, 0, tile.shape[1] - width))
    bottom = int(max(top - 3, height + 2))
    corner = left + width, bottom + 2
    cv2.rectangle(
        tile, (left, bottom - height - 2), corner, (0, 0, 0), cv2.FILLED
    )
    colour = _colour_of(item['category_id'])
    cv2.putText(tile, text, (left, bottom), font, size, colour, 1, cv2.LINE_AA)


def _colour_of(category_id: int) -> tuple[int, int, int]:
    """Return a bright BGR colour that differs clearly from the next
    category's."""
    hue = np.uint8([[[category_id * 67 % 180, 160, 255]]])
    blue, green, red = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red
