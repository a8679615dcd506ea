"""Composition of one image from a photograph and sprites, with their visible
masks."""

from collections.abc import Sequence

import cv2
import numpy as np

SIDES = (0.1, 0.75)  # longest side of a thing / shorter side of the image
MIN_VISIBLE_SHARE = 0.4
MIN_VISIBLE_PIXELS = 40
MAX_TRIES = 8
SHADOW_REACH = 16  # pixels


def compose(
    rng: np.random.Generator,
    photographs: Sequence[np.ndarray],
    things: Sequence[np.ndarray],
    height: int,
    width: int,
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Paint things onto a random photograph.

    Args:
        rng: Generator of all random numbers.
        photographs: (H, W, 3) uint8 BGR, any size.
        things: (H, W, 4) uint8 BGRA sprites, the topmost first.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        The image, (height, width, 3) uint8 BGR, and the visible masks,
        (height, width) bool, by index in `things`. A thing that could not be
        placed with enough of it visible is missing from both.
    """
    canvas = _background(rng, photographs, height, width)
    covered = np.zeros((height, width), bool)
    placed = []
    for index, sprite in enumerate(things):
        layer, visible = _place(rng, sprite, covered)
        if visible is not None:
            placed.append((index, layer, visible))
            covered |= visible
    light = rng.uniform(-6, 6, 2)  # shift of shadows in pixels
    ambient = canvas.mean(axis=(0, 1))
    for _, layer, _ in reversed(placed):
        _paint(rng, canvas, layer, light, ambient)
    image = _finish(rng, canvas)
    return image, {index: visible for index, _, visible in placed}


def texture_patch(
    rng: np.random.Generator, photographs: Sequence[np.ndarray]
) -> np.ndarray:
    """Cut a random polygon out of a photograph; return (96, 96, 4) uint8
    BGRA."""
    patch = _background(rng, photographs, 96, 96)
    corners = rng.integers(2, 94, (7, 2)).astype(np.int32)
    alpha = np.zeros((96, 96), np.uint8)
    cv2.fillConvexPoly(alpha, cv2.convexHull(corners), 255, cv2.LINE_AA)
    return np.dstack([np.uint8(patch * 255), alpha])


def _background(
    rng: np.random.Generator,
    photographs: Sequence[np.ndarray],
    height: int,
    width: int,
) -> np.ndarray:
    photograph = photographs[rng.integers(len(photographs))]
    full_height, full_width = photograph.shape[:2]
    fitting = min(full_height / height, full_width / width)
    # a photograph is enlarged by 1.3 at most, unless it is too small
    scale = max(fitting * rng.uniform(0.55, 1), min(fitting, 0.77))
    crop_height, crop_width = int(height * scale), int(width * scale)
    top = rng.integers(full_height - crop_height + 1)
    left = rng.integers(full_width - crop_width + 1)
    crop = photograph[top : top + crop_height, left : left + crop_width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    crop = cv2.resize(crop, (width, height), interpolation=method)
    gain = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.06, 3))
    return np.clip(crop * np.float32(gain / 255), 0, 1)


def _place(
    rng: np.random.Generator, sprite: np.ndarray, covered: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Find a position where enough of a sprite is visible.

    Returns:
        Its layer, (H, W, 4) float32 BGRA in [0, 1] with premultiplied colours,
        and its visible mask, or None if no position was found.
    """
    height, width = covered.shape
    sprite = _recolour(rng, sprite)
    for _ in range(MAX_TRIES):
        side = min(height, width) * np.exp(rng.uniform(*np.log(SIDES)))
        small = _resize(rng, sprite, side)
        centre = rng.uniform(0.04, 0.96, 2) * (width, height)
        layer = _warp(small, rng.normal(0, 18), centre, height, width)
        visible = (layer[..., 3] > 0.5) & ~covered
        whole = np.count_nonzero(small[..., 3] > 0.5)
        needed = max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * whole)
        if np.count_nonzero(visible) >= needed:
            return layer, visible
    return layer, None


def _recolour(rng: np.random.Generator, sprite: np.ndarray) -> np.ndarray:
    """Vary light and colour; return premultiplied float32 BGRA."""
    pixels = sprite.astype(np.float32) / 255
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    grey = colour.mean(axis=-1, keepdims=True)
    colour = grey + (colour - grey) * rng.uniform(0.5, 1.05)
    gain = np.exp(rng.normal(-0.1, 0.2) + rng.normal(0, 0.06, 3))
    rows, columns = np.mgrid[
        -1 : 1 : sprite.shape[0] * 1j, -1 : 1 : sprite.shape[1] * 1j
    ]
    slope = rng.uniform(-0.25, 0.25, 2)
    shade = 1 + rows * slope[0] + columns * slope[1]
    colour *= (shade[..., None] * gain).astype(np.float32)
    colour = np.clip(colour, 0, 1)
    if rng.random() < 0.5:
        colour, alpha = colour[:, ::-1], alpha[:, ::-1]
    return np.dstack([colour * alpha, alpha])


def _resize(
    rng: np.random.Generator, sprite: np.ndarray, side: float
) -> np.ndarray:
    stretch = np.exp(rng.normal(0, 0.1))
    height, width = sprite.shape[0] * stretch, sprite.shape[1] / stretch
    scale = side / max(height, width)
    size = max(round(width * scale), 3), max(round(height * scale), 3)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(sprite, size, interpolation=method)


def _warp(
    sprite: np.ndarray,
    degrees: float,
    centre: np.ndarray,
    height: int,
    width: int,
) -> np.ndarray:
    middle = (sprite.shape[1] - 1) / 2, (sprite.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D(middle, degrees, 1)
    matrix[:, 2] += centre - middle
    return cv2.warpAffine(sprite, matrix, (width, height))


def _paint(
    rng: np.random.Generator,
    canvas: np.ndarray,
    layer: np.ndarray,
    light: np.ndarray,
    ambient: np.ndarray,
) -> None:
    """Paint a layer and its shadow into the canvas, in place."""
    window = _window(layer[..., 3] > 0)
    layer, canvas = layer[window], canvas[window]
    alpha = layer[..., 3]
    shift = np.float32([[1, 0, light[0]], [0, 1, light[1]]])
    shadow = cv2.warpAffine(alpha, shift, alpha.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1, 4))
    canvas *= 1 - rng.uniform(0, 0.5) * shadow[..., None]
    # blend with the mean background colour
    veil = rng.uniform(0, 0.25)
    canvas *= 1 - alpha[..., None]
    canvas += layer[..., :3] * (1 - veil)
    canvas += veil * alpha[..., None] * ambient


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that a thing and its shadow touch."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(rows[0] - SHADOW_REACH, 0), rows[-1] + SHADOW_REACH),
        slice(max(columns[0] - SHADOW_REACH, 0), columns[-1] + SHADOW_REACH),
    )


def _finish(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.2, 0.8))
    noise = rng.standard_normal(canvas.shape, np.float32)
    canvas = canvas + noise * rng.uniform(0, 0.03)
    canvas = canvas * float(np.exp(rng.normal(0, 0.15)))
    return np.uint8(np.clip(canvas * 255 + 0.5, 0, 255))
