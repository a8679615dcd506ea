"""A reader that splits an annotation file into images without parsing it as a
whole."""

from __future__ import annotations

import mmap
import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
from lvis import LVIS
from mmdet.datasets.api_wrappers import COCO

from ..annotation_faults import AnnotationValidator, raise_first_fault

START = re.compile(rb'"annotations"\s*:\s*\[')
#: Matches the boundary between two annotations, or the end of the list.
BOUNDARY = re.compile(rb'\}\s*(?:,\s*\{|\])')
#: Annotations parsed per chunk, which fits into a processor's cache.
CHUNK = 256


class AnnotationFile:
    """A COCO or LVIS file, parsed except for its annotations, whose positions
    are recorded.

    What MMDetection lacks: it creates objects for all polygons at once, 8 GB
    for LVIS. Here each annotation is parsed twice: once to find its image, and
    once when its image is loaded.

    Attributes:
        header: The content with an empty list of annotations.
        validator: The checks of the annotations, and their counts.
        cat_img_map: Image id of each annotation, by category id.
        images: MMDetection's image record by image id.

    Raises:
        FaultyAnnotationsError: If its content would give wrong results.
        ValueError: If it cannot be read in this way: it is not JSON (for
            orjson: UTF-8, no NaN), or annotations hold lists of dicts.
        LookupError: If an annotation lacks an id, its image or category.
        TypeError: If it has another layout.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, 'rb', buffering=0)  # noqa: SIM115
        self.cat_img_map: dict[Any, list] = defaultdict(list)
        self.images: dict[Any, dict[str, Any]] = {}
        self._ids: list[Any] = []
        self._rows: dict[Any, array] = defaultdict(lambda: array('q'))
        with mmap.mmap(
            self._file.fileno(), 0, access=mmap.ACCESS_READ
        ) as text:
            self._begins, self._ends = _boundaries(text)
            rest = text[: self._begins[0]] + text[self._ends[-1] :]
            self.header = orjson.loads(rest)
            if self.header['annotations'] or len(START.findall(rest)) > 1:
                raise ValueError('found another list of that name')
            self.validator = AnnotationValidator(
                self.header['images'], self.header['categories']
            )
            raise_first_fault(self.validator.header(), path)
            for row in range(0, len(self._begins), CHUNK):
                self._read_chunk(text, row)

    def _read_chunk(self, text: mmap.mmap, first: int) -> None:
        last = min(first + CHUNK, len(self._begins))
        found = orjson.loads(
            b'[%b]' % text[self._begins[first] : self._ends[last - 1]]
        )
        # a wrong cut inside an annotation gives a piece that does not parse,
        # or fewer annotations
        if len(found) != last - first:
            raise ValueError('annotations hold lists of dicts')
        raise_first_fault(self.validator.annotations(found), self._file.name)
        for row, annotation in enumerate(found, first):
            image_id = annotation['image_id']
            self._ids.append(annotation['id'])
            self._rows[image_id].append(row)
            self.cat_img_map[annotation['category_id']].append(image_id)

    def ids(self, image_id: Any) -> list[Any]:
        """Return the annotation ids of an image, in the order of the file."""
        return [self._ids[row] for row in self._rows.get(image_id, ())]

    def content(self, image_id: Any) -> dict[str, Any]:
        """Return the input of MMDetection's ``parse_data_info`` for an
        image."""
        # read from the file, as pages of a mapping would count as memory in
        # use
        pieces = []
        for row in self._rows.get(image_id, ()):
            self._file.seek(self._begins[row])
            pieces.append(self._file.read(self._ends[row] - self._begins[row]))
        return dict(
            raw_ann_info=orjson.loads(b'[%b]' % b','.join(pieces)),
            raw_img_info=self.images[image_id],
        )


def _boundaries(text: mmap.mmap) -> tuple[array, array]:
    start = START.search(text)
    if not start:
        raise ValueError('no annotations')
    begins, ends = array('q', [start.end()]), array('q')
    for match in BOUNDARY.finditer(text, start.end()):
        ends.append(match.start() + 1)
        if text[match.end() - 1] == ord(']'):
            return begins, ends
        begins.append(match.end() - 1)
    raise ValueError('annotations do not end')


class _WithoutAnnotations:
    """Mixin for the API methods that MMDetection's datasets call: annotation
    ids, but no annotations."""

    pieces: AnnotationFile

    def get_ann_ids(self, img_ids: Sequence[Any]) -> list[Any]:
        return self.pieces.ids(img_ids[0])

    def load_anns(self, ids: Sequence[Any]) -> list[Any]:
        return []


class CocoWithoutAnnotations(_WithoutAnnotations, COCO):
    """MMDetection's COCO API for images without loaded annotations."""

    def __init__(self, pieces: AnnotationFile) -> None:
        super().__init__()
        self.pieces = pieces
        self.dataset = pieces.header
        self.createIndex()
        pieces.images = self.imgs
        self.cat_img_map = pieces.cat_img_map


class LvisWithoutAnnotations(_WithoutAnnotations, LVIS):
    """The official LVIS API for images without loaded annotations."""

    def _load_json(self, pieces: AnnotationFile) -> dict[str, Any]:
        self.pieces = pieces
        return pieces.header

    def _create_index(self) -> None:
        super()._create_index()
        self.pieces.images = self.imgs
        self.cat_img_map = self.pieces.cat_img_map
