"""Check image files before training."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from PIL import Image

JPEG_END = b'\xff\xd9'


def image_fault(path: str, width: int, height: int) -> str | None:
    """Say what is wrong with an image file, reading as little as possible.

    Args:
        path: The file.
        width: Width by the annotations, in pixels.
        height: Height by the annotations, in pixels.

    Returns:
        A phrase, or None if the file is whole and of that size. A JPEG
        whose end is in place is not decoded.
    """
    try:
        with Image.open(path) as image:
            # a viewer's rotation (EXIF) swaps the sides
            if sorted(image.size) != sorted((width, height)):
                return (
                    f'is {image.width} x {image.height} instead of '
                    f'{width} x {height} pixels'
                )
            if image.format != 'JPEG' or not _has_jpeg_end(path):
                image.load()
    except FileNotFoundError:
        return 'does not exist'
    except (OSError, SyntaxError, ValueError) as error:
        return f'cannot be read ({error})'
    return None


def _has_jpeg_end(path: str) -> bool:
    with open(path, 'rb') as stream:
        stream.seek(max(0, Path(path).stat().st_size - 64))
        return JPEG_END in stream.read()


def check_images(infos: list[dict[str, Any]], threads: int = 16) -> None:
    """Check every image of a data set.

    Args:
        infos: MMDetection's data list: ``img_path``, ``width``, ``height``.
        threads: Files that are looked at in parallel.

    Raises:
        ValueError: If any is missing, cut short or of another size.
    """
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        faults = list(
            pool.map(
                lambda info: image_fault(
                    info['img_path'], info['width'], info['height']
                ),
                infos,
            )
        )
    found = [
        (info['img_path'], fault)
        for info, fault in zip(infos, faults, strict=True)
        if fault
    ]
    if found:
        path, fault = found[0]
        raise ValueError(
            f'Every image of the data set must be whole, got {len(found)} of '
            f'{len(infos)} that are not; the first, {path!r}, {fault}. '
            'Correct data_root and data_prefix, or restore the files.'
        )
    print_log(
        f'checked {len(infos)} images in {time.perf_counter() - start:.1f} s',
        logger='current',
    )
