"""A check of a whole dataset: its annotation file and its images."""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..annotation_faults import (
    EXAMPLES,
    AnnotationValidator,
    are_polygons,
    is_id,
    is_outside,
)
from ..gc_paused import gc_paused
from ..memory_limit import memory_limit
from .images import inspect_image

#: Annotations checked per chunk.
CHUNK = 256
MAX_LENGTH = 240  # characters of an example
#: Kinds of image faults that give wrong results or end a run; all others are
#: notes.
IMAGE_ERRORS = (
    'image missing',
    'image empty',
    'image unreadable',
    'image size',
    'image annotated as stored, not as shown',
)
OUTSIDE = 'file_name outside of the image folder'
PARTS = ('images', 'categories', 'annotations')


@dataclass
class Findings:
    """Results of a check.

    Attributes:
        errors: Number of findings of each kind that would give wrong results.
        notes: Number of findings of each kind that is unusual, or ignored by
            MMDetection.
        examples: Up to three of each kind.
        numbers: Numbers of images, categories, annotations, objects and
            crowds.
    """

    errors: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    numbers: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, example: str, *, error: bool) -> None:
        """Add one finding."""
        (self.errors if error else self.notes)[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            # lone UTF-16 surrogates cannot be printed
            text = example[:MAX_LENGTH].encode('utf-8', 'backslashreplace')
            self.examples[kind].append(text.decode('utf-8'))


def read(
    path: Path, *, name: str = 'ANN', pack: bool = True
) -> dict[str, Any]:
    """Read an annotation file without normalisation, including NaN and
    repeated keys.

    Args:
        path: Path of the annotation file.
        name: Name of the option, for error messages.
        pack: Whether to store polygons in arrays, 8 bytes per number instead
            of a list's 32. For checks only: integers become floats.

    Raises:
        ValueError: If it is not an annotation file.
    """
    try:
        with gc_paused(), memory_limit():
            content = json.loads(
                path.read_bytes().decode('utf-8'),
                object_hook=_packed if pack else None,
            )
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{name} must be UTF-8, got {str(path)!r} with another byte at '
            f'{error.start}. Unpack it, or save it as UTF-8.'
        ) from error
    except RecursionError as error:
        raise ValueError(
            f'{name} must be lists of flat entries, got {str(path)!r} with '
            'hundreds of nested lists. Write it again.'
        ) from error
    except MemoryError as error:
        raise ValueError(
            f'{name} must fit into memory, got {str(path)!r} of '
            f'{path.stat().st_size:,} bytes, which does not. Use a machine '
            'with more, or split the file.'
        ) from error
    except ValueError as error:  # also for integers of 5,000 digits
        raise ValueError(
            f'{name} must be complete JSON, got {str(path)!r} ({error}). '
            'Download or write it again.'
        ) from error
    lists = isinstance(content, dict) and all(
        isinstance(content.get(part), list)
        and all(isinstance(entry, dict) for entry in content[part])
        for part in PARTS
    )
    if not lists:
        raise ValueError(
            f'{name} must have lists of images, categories and annotations, '
            f'got {str(path)!r} without. Name an annotation file of COCO or '
            'LVIS.'
        )
    return content  # type: ignore[no-any-return]


def _packed(entry: dict[str, Any]) -> dict[str, Any]:
    shape = entry.get('segmentation')
    if isinstance(shape, list) and are_polygons(shape):
        entry['segmentation'] = [array('d', polygon) for polygon in shape]
    return entry


def check(
    content: dict[str, Any],
    folder: Path | None = None,
    *,
    threads: int = 16,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda x, _: x,
) -> Findings:
    """Check a dataset.

    Args:
        content: Content of its annotation file.
        folder: Folder of its images; None to skip the pixels.
        threads: Number of images decoded in parallel.
        progress: Wraps an iterable of a known length to draw a progress bar.
    """
    found = Findings()
    images, categories, annotations = (content[part] for part in PARTS)
    validator = AnnotationValidator(images, categories)
    faults = list(validator.header())
    for first in range(0, len(annotations), CHUNK):
        faults += validator.annotations(annotations[first : first + CHUNK])
    for kind, entries in validator.left_out.items():
        for one in entries:
            example = f'annotation {one["id"]}: {one["bbox"]}'
            found.add(kind, example, error=False)
        found.notes[kind] = validator.dropped[kind]
    for fault in faults:
        example = f'{fault.where}: {fault.shown[:80]}'
        found.add(fault.kind, example, error=True)
    for kind, example in (
        *_names(images, categories),
        *_unusual(images, categories, annotations),
    ):
        found.add(kind, example, error=False)
    found.numbers = dict(
        images=len(images),
        categories=len(categories),
        annotations=len(annotations),
        objects=validator.objects,
        crowds=validator.crowds,
    )
    if annotations and not validator.objects:
        found.add('no object to train on', validator.describe(), error=True)
    for image in images:
        name = file_of(image)
        # without a folder, an absolute path is not outside
        if name is not None and is_outside(name, str(folder or '/')):
            example = f'image {image.get("id")!r}: {name!r}'
            found.add(OUTSIDE, example, error=True)
    if folder is not None:
        _check_pixels(found, images, folder, threads, progress)
    return found


def _names(
    images: list[Any], categories: list[Any]
) -> Iterator[tuple[str, str]]:
    files = [file_of(image) for image in images]
    for kind, names in (
        ('file_name', files),
        ('category name', [one.get('name') for one in categories]),
    ):
        for name, count in Counter(map(str, names)).items():
            if count > 1:
                yield f'{kind} of several entries', f'{name!r}: {count} times'
    for image, name in zip(images, files, strict=True):
        if name is None:
            yield 'no file_name', f'image {image.get("id")!r}'
        elif '\\' in name:
            yield 'file_name with backslashes', name
        elif '://' in name:
            yield 'file_name that is not a local file', name
        elif Path(name).is_absolute():
            yield 'file_name that is absolute', name


def _unusual(
    images: list[Any], categories: list[Any], annotations: list[Any]
) -> Iterator[tuple[str, str]]:
    sizes = {
        str(i.get('id')): (i.get('width'), i.get('height')) for i in images
    }
    seen: set[Any] = set()
    for one in annotations:
        where = f'annotation {one.get("id")!r:.80}'
        ids = [one.get(key) for key in ('id', 'image_id', 'category_id')]
        if any(is_id(number) and number > 2**53 for number in ids):
            yield 'id beyond 53 bits', where
        if one.get('iscrowd', 0) not in (0, 1):
            yield 'iscrowd that is neither 0 nor 1', where
        shape = one.get('segmentation')
        if one.get('iscrowd') == 1 and isinstance(shape, list) and shape:
            yield 'crowd with polygons', where
        if 'segmentation' in one and not shape:
            yield 'annotation without a mask', where
        if isinstance(shape, list) and any(
            isinstance(p, (list, array)) and (len(p) < 6 or len(p) % 2)
            for p in shape
        ):
            yield 'polygon of less than 3 points, or half a point', where
        yield from _unusual_box(one, where, sizes)
        key = repr([one.get(k) for k in ('image_id', 'category_id', 'bbox')])
        if key in seen:
            yield 'annotation twice', where
        seen.add(key)
    for kind, entries, name in (
        ('image', images, 'image_id'),
        ('category', categories, 'category_id'),
    ):
        used = {str(one.get(name)) for one in annotations}
        for entry in entries:
            if str(entry.get('id')) not in used:
                yield (
                    f'{kind} without annotations',
                    f'{kind} {entry.get("id")}',
                )


def _unusual_box(
    one: dict[str, Any], where: str, sizes: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    try:
        x, y, w, h = map(float, one['bbox'])
        width, height = map(float, sizes[str(one.get('image_id'))])
        area = float(one['area'])
    except (KeyError, OverflowError, TypeError, ValueError):
        return  # reported as a fault
    if area <= 0 or w < 1 or h < 1:
        return  # reported as left out
    if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        example = f'{where}: {one["bbox"]} in {width:g} x {height:g}'
        yield 'box over the edge of the image', example
    elif area > 1.01 * w * h + 1:
        yield 'area larger than the box', f'{where}: {area:g}'


def _check_pixels(
    found: Findings,
    images: list[Any],
    folder: Path,
    threads: int,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
) -> None:
    def inspect(image: dict[str, Any]) -> Any:
        name = file_of(image)
        if name is None or '://' in name or is_outside(name, str(folder)):
            return []
        return inspect_image(
            str(folder / name), image.get('width'), image.get('height')
        )

    with ThreadPoolExecutor(threads) as pool:
        results = progress(pool.map(inspect, images), len(images))
        for image, faults in zip(images, results, strict=True):
            for kind, text in faults:
                found.add(
                    kind,
                    f'{file_of(image)} {text}',
                    error=kind in IMAGE_ERRORS,
                )


def file_of(image: dict[str, Any]) -> str | None:
    """Return the path of an image in its folder, as MMDetection finds it."""
    name = image.get('file_name')
    if isinstance(name, str):
        return name
    url = image.get('coco_url')  # LVIS: train2017/000000391895.jpg
    return '/'.join(url.split('/')[-2:]) if isinstance(url, str) else None


def repair(content: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """Apply safe corrections; remove annotations that cannot be used.

    Returns:
        The new content, and the number of corrections of each kind.
    """
    copies = {part: [dict(x) for x in content[part]] for part in PARTS}
    content = {**content, **copies}
    done: Counter[str] = Counter()
    for part, keys in (
        ('images', ('id', 'width', 'height')),
        ('categories', ('id',)),
        ('annotations', ('id', 'image_id', 'category_id')),
    ):
        for entry in content[part]:
            for key in keys:
                number = _whole(entry.get(key))
                if number is not None and type(entry[key]) is not int:
                    entry[key] = number
                    done[f'{part}: {key} is a number'] += 1
    for image in content['images']:
        name = image.get('file_name')
        if isinstance(name, str) and '\\' in name:
            image['file_name'] = name.replace('\\', '/')
            done['images: file_name with slashes'] += 1
    for one in content['annotations']:
        if one.get('area') is None and isinstance(one.get('bbox'), list):
            try:
                one['area'] = float(one['bbox'][2]) * float(one['bbox'][3])
                done['annotations: area of the box'] += 1
            except (IndexError, OverflowError, TypeError, ValueError):
                pass
    ids = [one.get('id') for one in content['annotations']]
    if not all(map(is_id, ids)) or len(set(ids)) < len(ids):
        for number, one in enumerate(content['annotations'], 1):
            one['id'] = number
        done['annotations: renumbered'] += len(ids)
    validator = AnnotationValidator(content['images'], content['categories'])
    list(validator.header())
    kept = []
    for one in content['annotations']:
        faults = list(validator.annotations([one]))
        if faults:
            done[f'annotations removed: {faults[0].kind}'] += 1
        else:
            kept.append(one)
    content['annotations'] = kept
    return content, done


def _whole(value: Any) -> int | None:
    """Return the integer that a text or float denotes unambiguously; else
    None.

    Python's ``int`` also accepts ``' 1'``, ``'1_0'`` and digits of other
    scripts.
    """
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = int(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if isinstance(value, str):
        return number if str(number) == value else None
    exact = not isinstance(value, float) or (
        value == number and abs(value) <= 2**53
    )
    return number if exact else None
