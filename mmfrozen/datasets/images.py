"""Checks of image files before training."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from PIL import Image

JPEG_END = b'\xff\xd9'
ORIENTATION = 0x0112  # EXIF tag
#: EXIF orientations that swap width and height.
ON_ITS_SIDE = (5, 6, 7, 8)
#: Number of pixels above which an image takes a gigabyte in a pipeline.
HUGE = 100_000_000
ONE_HUGE = threading.Lock()  # held while a huge image is decoded
#: Folders cannot be read, and reading a pipe would block.
NO_FILE = 'is not a regular file'
FORMATS = dict(jpg='JPEG', jpeg='JPEG', png='PNG', bmp='BMP', webp='WEBP')


def find_image_fault(
    path: str, width: int, height: int, *, turns: bool = True
) -> str | None:
    """Return the fault of an image file, reading as little as possible.

    Args:
        path: Path of the image.
        width: Annotated width in pixels.
        height: Annotated height in pixels.
        turns: Whether the loader rotates images by their EXIF orientation, as
            MMDetection's does.

    Returns:
        A description of the fault; None if the file is complete and of that
        size. A JPEG with an end marker is not decoded.
    """
    try:
        if not _is_regular(os.stat(path)):
            return NO_FILE
        with Image.open(path) as image, _limit_decoding(image):
            stored = image.size
            size = shown_size(image) if turns else stored
            if size != (width, height):
                turned = (
                    f' (stored as {stored[0]} x {stored[1]}, turned by its '
                    'EXIF orientation)'
                    if size != stored
                    else ''
                )
                return (
                    f'is {size[0]} x {size[1]} instead of {width} x {height} '
                    f'pixels{turned}'
                )
            if image.format != 'JPEG' or not _has_jpeg_end(path):
                image.load()
    except FileNotFoundError:
        backslashes = (
            ' (its file_name has backslashes, which `mmfrozen check --fix` '
            'makes slashes)'
        )
        return 'does not exist' + backslashes * ('\\' in path)
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        return f'cannot be read ({error})'
    return None


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)


def _limit_decoding(
    image: Image.Image,
) -> contextlib.AbstractContextManager[Any]:
    """Return a context that decodes huge images one at a time, to bound
    memory.

    Pillow also decodes a PNG when its EXIF data are read.
    """
    huge = image.width * image.height > HUGE
    return ONE_HUGE if huge else contextlib.nullcontext()


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height after rotation by the EXIF orientation."""
    width, height = image.size
    turned = image.getexif().get(ORIENTATION) in ON_ITS_SIDE
    return (height, width) if turned else (width, height)


def inspect_image(path: str, width: Any, height: Any) -> list[tuple[str, str]]:
    """Decode an image and list everything unusual.

    Args:
        path: Path of the image.
        width: Annotated width in pixels.
        height: Annotated height in pixels.

    Returns:
        Pairs of a kind and a description.
    """
    try:
        status = os.stat(path)
        if not _is_regular(status):
            return [('image unreadable', NO_FILE)]
        if not status.st_size:
            return [('image empty', 'has no bytes')]
        with Image.open(path) as image, _limit_decoding(image):
            found = list(_unusual(image, path))
            size = shown_size(image)
            if size != (width, height):
                turned = size != image.size == (width, height)
                found.append(
                    (
                        'image annotated as stored, not as shown'
                        if turned
                        else 'image size',
                        f'is {size[0]} x {size[1]} instead of {width} x '
                        f'{height} pixels',
                    )
                )
            image.load()
    except FileNotFoundError:
        return [('image missing', 'does not exist')]
    except Exception as error:  # a decoder may raise anything
        return [('image unreadable', f'cannot be read ({error})')]
    return found


def _unusual(image: Image.Image, path: str) -> Iterator[tuple[str, str]]:
    suffix = Path(path).suffix.lower().removeprefix('.')
    if FORMATS.get(suffix, image.format) != image.format:
        yield 'image suffix', f'is {image.format}, not {suffix}'
    if image.mode == 'CMYK':
        yield 'image in CMYK', 'has CMYK colours, which decoders differ on'
    elif image.mode.startswith('I') or image.mode == 'F':
        yield 'image of 16 bits', f'has the mode {image.mode}: 8 bits are read'
    elif image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
        yield (
            'image with transparency',
            'has an alpha channel, which is dropped',
        )
    elif image.mode in ('1', 'L'):
        yield 'image in grey', 'is grey: its three channels are equal'
    if getattr(image, 'n_frames', 1) > 1:
        yield 'image of several frames', f'has {image.n_frames} frames'
    if image.width * image.height > HUGE:
        yield 'image huge', f'has {image.width} x {image.height} pixels'
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation != 1:
        yield 'image turned by EXIF', f'has the orientation {orientation}'


def _has_jpeg_end(path: str) -> bool:
    with open(path, 'rb') as stream:
        stream.seek(max(0, Path(path).stat().st_size - 64))
        return JPEG_END in stream.read()


def check_images(
    infos: list[dict[str, Any]], threads: int = 16, *, turns: bool = True
) -> None:
    """Check every image of a dataset.

    Args:
        infos: MMDetection's data list: ``img_path``, ``width``, ``height``.
        threads: Number of files checked in parallel.
        turns: See :func:`find_image_fault`.

    Raises:
        ValueError: If any is missing, truncated or of another size.
    """
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        faults = list(
            pool.map(
                lambda info: find_image_fault(
                    info['img_path'],
                    info['width'],
                    info['height'],
                    turns=turns,
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
