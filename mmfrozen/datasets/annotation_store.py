"""Loading of annotations in one process per machine, decoded image by
image."""

from __future__ import annotations

import os
import pickle
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.dist import get_world_size
from torch.utils.data import get_worker_info

from ..annotation_faults import FaultyAnnotationsError
from ..gc_paused import gc_paused
from ..memory_limit import memory_limit
from .pieces import AnnotationFile
from .sharing import load_once_per_machine, store

#: Methods that handle annotations during loading, and the modules whose
#: implementations also work if annotations are added only at serialisation.
LOADING = (
    'load_data_list',
    'parse_data_info',
    'filter_data',
    '_serialize_data',
)
MODULES = (__name__, f'{__package__}.checked', CocoDataset.__module__)


class _Ids(list):
    """A list of ids with fast membership tests, for 1,203 categories."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        super().__init__(ids)
        self._set = frozenset(self)

    def __contains__(self, item: object) -> bool:
        return item in self._set


class LoadOnce:
    """Mixin that loads like MMDetection, in less memory and once per machine.

    What MMDetection lacks: every process of a machine creates Python objects
    for the whole annotation file and keeps its own serialised copy. Here one
    process does so, image by image, and the others map its memory. Labels can
    be read without unpickling polygons.

    Args:
        share_annotations: Whether one process per machine loads for the
            others; all processes must then build the dataset. False: each
            process loads its own copy.
    """

    _pieces: AnnotationFile | None = None
    #: The ``data_address`` to which the labels belong, the labels of all
    #: images, and where each image's labels end.
    _labels: tuple[Any, Any, Any] = (None, None, None)

    def __init__(
        self, *args: Any, share_annotations: bool = True, **kwargs: Any
    ) -> None:
        self._share_annotations = share_annotations
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        """Load like MMDetection, in one process of each machine."""
        if self._fully_initialized:
            return
        if (
            self._share_annotations
            and self.serialize_data
            and get_world_size() > 1
            and get_worker_info() is None
        ):
            options = {k: v for k, v in vars(self).items() if k != 'pipeline'}
            key = repr((type(self), options))
            vars(self).update(load_once_per_machine(key, self._load))
        else:
            self._load()

    def _load(self) -> dict[str, Any]:
        """Load, and return the attributes that have changed."""
        before = dict(vars(self))
        with gc_paused():
            super().full_init()
        return {
            name: value
            for name, value in vars(self).items()
            if value is not before.get(name, before)
        }

    def load_data_list(self) -> list[dict]:
        """Load like MMDetection; annotations are added at serialisation."""
        self._pieces = self._open_pieces()
        if self._pieces is None:
            with memory_limit():
                return super().load_data_list()
        with self._api_of(self._pieces):
            return super().load_data_list()

    def _open_pieces(self) -> AnnotationFile | None:
        """Open the annotation file for reading image by image; return None if
        some method needs the whole file."""
        if (
            not self.serialize_data
            or not self.ANN_ID_UNIQUE
            or self.COCOAPI is not COCO
            or self.proposal_file is not None
            or self.backend_args is not None
            or '://' in self.ann_file
            or any(
                getattr(type(self), name).__module__ not in MODULES
                for name in LOADING
            )
        ):
            return None
        try:
            size = os.stat(self.ann_file).st_size
            with memory_limit(mapped=size):
                return AnnotationFile(self.ann_file)
        except FaultyAnnotationsError:
            raise
        except (ValueError, LookupError, TypeError):
            return None

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """Serialise like MMDetection, into memory that processes can share."""
        sizes, labels, ends = [], array('i'), array('q', [0])

        def serialised() -> Iterator[bytes]:
            for number, info in enumerate(self.data_list):
                self.data_list[number] = None  # free it
                if self._pieces:
                    info = self.parse_data_info(
                        self._pieces.content(info['img_id'])
                    )
                    labels.extend(x['bbox_label'] for x in info['instances'])
                    ends.append(len(labels))
                data = pickle.dumps(info, protocol=4)
                sizes.append(len(data))
                yield data

        data_bytes = store(serialised())
        data_address = np.cumsum(sizes, dtype=np.int64)
        if self._pieces:
            self._labels = data_address, labels, ends
        self.data_list.clear()
        self._pieces = None
        return data_bytes, data_address

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the labels of an image like MMDetection, without polygons."""
        address, labels, ends = self._labels
        if address is None or address is not self.data_address:  # a subset
            return super().get_cat_ids(idx)
        place = range(len(address))[idx]
        return labels[ends[place] : ends[place + 1]].tolist()

    @property
    def cat_ids(self) -> list[int]:
        """Return the category ids by label; MMDetection tests which ids are
        among them."""
        return self._cat_ids

    @cat_ids.setter
    def cat_ids(self, ids: list[int]) -> None:
        self._cat_ids = _Ids(ids)
