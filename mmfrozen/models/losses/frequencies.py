"""Reader of the number of training images of each class."""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import is_number

KEY = b'"categories"'
#: Maximum number of bytes to parse, from the start of the categories; those
#: of LVIS v1 take 0.6 MB.
MOST_BYTES = 1 << 26
REMEDY = (
    'Name an annotation file of LVIS v1, whose categories have image_count, '
    'or list the number of training images of each class.'
)


def read_frequencies(source: Any, where: str) -> list[float]:
    """Read the number of training images of each class.

    The annotations of a file are not parsed, as LVIS's take 1 GB.

    Args:
        source: The numbers by label, or a JSON file that holds LVIS's
            ``categories`` or only that list (``lvis_v1_train_cat_info.json``).
        where: Name of the option, for error messages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the values are not numbers of images.
    """
    counts, place = source, ''
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            raise FileNotFoundError(
                f'{where} must be an existing file, got {str(source)!r}. '
                f'{REMEDY}'
            )
        place = f' in {str(source)!r}'
        categories = _read_categories(Path(source))
        counts = [c.get('image_count') for c in categories]
    fault = _find_fault(counts)
    if fault:
        raise ValueError(
            f'{where} must be the number of training images of each class, '
            f'got {fault}{place}. {REMEDY}'
        )
    return [float(count) for count in counts]


def _find_fault(counts: Any) -> str:
    if not isinstance(counts, Sequence):
        return repr(counts)
    for label, count in enumerate(counts):
        if not is_number(count) or count < 0:
            return f'{count!r} for label {label}'
    return '' if any(counts) else 'none'


def _read_categories(path: Path) -> list[dict[str, Any]]:
    """Return the last list named "categories", or the whole file if it is a
    list; empty if there is neither."""
    try:
        with (
            open(path, 'rb') as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            place = text.rfind(KEY)
            start = text.find(b'[', place) if place >= 0 else 0
            content = text[start : start + MOST_BYTES].decode(errors='replace')
        found, _ = json.JSONDecoder().raw_decode(content)
    except ValueError:  # an empty file, or no JSON
        return []
    is_list = isinstance(found, list) and all(
        isinstance(category, dict) for category in found
    )
    return found if is_list else []
