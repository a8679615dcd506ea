"""Draw a crop of an image with outlines and labels."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as mask_utils

from ..page import replace_undrawable

Crop = tuple[int, int, int, int]

SIDE = 270  # pixels of a panel
HEAD = 22  # pixels of the line above a panel
GAP = 6  # pixels between two panels
LINE = 16  # pixels of a line of text
CONTEXT = 2.2  # side of the crop, relative to the longer side of the object
SMALLEST_CROP = 80  # side of the crop in pixels of the image
QUALITY = 82


class Panel:
    """A square panel with a crop of an image.

    Args:
        image: The image.
        crop: Left, top, right, bottom in pixels of the image.
    """

    def __init__(self, image: Image.Image, crop: Crop) -> None:
        left, top, right, bottom = crop
        self._origin = np.array([left, top])
        self._scale = SIDE / max(right - left, bottom - top)
        width = round((right - left) * self._scale)
        height = round((bottom - top) * self._scale)
        self._shift = np.array([(SIDE - width) // 2, (SIDE - height) // 2])
        self.picture = Image.new('RGB', (SIDE, SIDE), '#eeeeee')
        part = image.crop(crop)
        self.picture.paste(
            part.resize((width, height), Image.Resampling.LANCZOS),
            tuple(self._shift.tolist()),
        )
        self._draw = ImageDraw.Draw(self.picture)
        self._taken: list[tuple[float, float, float, float]] = []

    def outline(
        self, lines: Iterable[NDArray[np.float64]], colour: str, width: int
    ) -> None:
        """Draw closed lines, (P, 2) each, in pixels of the image."""
        for line in lines:
            points = self._place(line)
            if len(points) > 1:
                self._draw.line(
                    [*points, points[0]], colour, width, joint='curve'
                )

    def tag(self, point: NDArray[np.float64], text: str, colour: str) -> None:
        """Write text above a point of the image, lower if it would overlap."""
        ((x, y),) = self._place(point[None])
        width = _font().getlength(text)
        x = min(max(x, 2), SIDE - width - 2)
        y = min(max(y - LINE - 1, 1), SIDE - LINE - 1)
        while any(
            abs(y - top) < LINE and x < right and left < x + width
            for left, top, right, _ in self._taken
        ):
            y += LINE
        box = (x - 2, y, x + width + 2, y + LINE)
        self._taken.append(box)
        self._draw.rectangle(box, fill=colour)
        self._draw.text((x, y), text, fill='white', font=_font())

    def note(self, text: str, colour: str) -> None:
        """Write text at the bottom of the panel."""
        foot = np.array([4, SIDE - 4]) - self._shift
        self.tag(self._origin + foot / self._scale, text, colour)

    def _place(self, points: NDArray[np.float64]) -> list[tuple[float, float]]:
        moved = (points - self._origin) * self._scale + self._shift
        return [(float(x), float(y)) for x, y in moved]


def outlines(
    box: NDArray[np.float64], rle: dict[str, Any] | None
) -> Iterator[NDArray[np.float64]]:
    """Yield the outlines of a mask, or the box if there is no mask.

    Args:
        box: x, y, width, height in pixels.
        rle: Compressed RLE mask; None for the box.

    Yields:
        (P, 2) x, y in pixels, of a closed line.
    """
    if rle is not None:
        lines, _ = cv2.findContours(
            mask_utils.decode(rle), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        # contours run through pixel centres
        yield from (line[:, 0].astype(float) + 0.5 for line in lines)
        return
    x, y, width, height = box
    right, bottom = x + width, y + height
    yield np.array([(x, y), (right, y), (right, bottom), (x, bottom)])


def crop_around(box: NDArray[np.float64], size: tuple[int, int]) -> Crop:
    """Return a square crop around a box, moved and cut to fit the image.

    Args:
        box: x, y, width, height in pixels.
        size: Width, height of the image.
    """
    side = max(CONTEXT * box[2:].max(), SMALLEST_CROP)
    starts, stops = [], []
    for middle, length in zip(box[:2] + box[2:] / 2, size, strict=True):
        extent = min(side, length)
        start = min(max(middle - extent / 2, 0), length - extent)
        starts.append(int(start))
        stops.append(max(int(start + extent), int(start) + 1))
    return starts[0], starts[1], stops[0], stops[1]


def join_panels(
    panels: Sequence[Panel], names: Sequence[str], colours: Sequence[str]
) -> bytes:
    """Join panels side by side under their names; return a JPEG file."""
    width = len(panels) * (SIDE + GAP) - GAP
    picture = Image.new('RGB', (width, SIDE + HEAD), 'white')
    draw = ImageDraw.Draw(picture)
    for index, (panel, name, colour) in enumerate(
        zip(panels, names, colours, strict=True)
    ):
        left = index * (SIDE + GAP)
        picture.paste(panel.picture, (left, HEAD))
        draw.text((left, 3), _fit(name), fill=colour, font=_font())
    buffer = io.BytesIO()
    picture.save(buffer, 'JPEG', quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _fit(text: str) -> str:
    """Return a name, without its beginning if it is too wide for a panel."""
    shown = replace_undrawable(text).replace('\n', ' ')
    while _font().getlength(shown) > SIDE and len(shown) > 2:
        shown = '\N{HORIZONTAL ELLIPSIS}' + shown[2:]
    return shown


@cache
def _font() -> ImageFont.FreeTypeFont:
    path = Path(mpl.get_data_path()) / 'fonts/ttf/DejaVuSans.ttf'
    return ImageFont.truetype(str(path), 13)
