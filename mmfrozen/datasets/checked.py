"""MMDetection's data sets with checks before training."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.registry import DATASETS
from mmengine.dist import is_main_process

from ..errors import did_you_mean
from .annotation_store import LoadOnce
from .images import check_images
from .pieces import (
    AnnotationFile,
    CocoWithoutAnnotations,
    LvisWithoutAnnotations,
)


class _CheckedMixin(LoadOnce):
    """Checks of :class:`CheckedCocoDataset`.

    Args:
        check_images: Look at every image file before training starts. For
            slow disks it can be switched off.
    """

    #: What to do when the annotation file is missing.
    remedy = 'Correct data_root and ann_file.'

    def __init__(
        self, *args: Any, check_images: bool = True, **kwargs: Any
    ) -> None:
        self._check_images = check_images
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Load the annotations once they are known to be there."""
        if '://' not in self.ann_file and not Path(self.ann_file).is_file():
            raise FileNotFoundError(
                f'{type(self).__name__}.ann_file must be an existing '
                f'annotation file, got {self.ann_file!r}. {self.remedy}'
            )
        try:
            return super().load_data_list()
        except json.JSONDecodeError as error:
            raise ValueError(
                f'{type(self).__name__}.ann_file must be whole JSON, got '
                f'{self.ann_file!r} ({error}). Download it again.'
            ) from error

    def filter_data(self) -> list[dict]:
        """Check the images of what MMDetection keeps."""
        kept = super().filter_data()
        used = kept
        if isinstance(self._indices, int):
            used = (
                kept[: self._indices]
                if self._indices >= 0
                else kept[self._indices :]
            )
        elif self._indices is not None:
            used = [kept[i] for i in self._indices]
        if not used:
            raise ValueError(
                f'{type(self).__name__} must have images with annotations of '
                f'its classes, got none in {self.ann_file!r}. Compare '
                'metainfo.classes with the categories of that file.'
            )
        local = '://' not in used[0]['img_path']
        if self._check_images and local and is_main_process():
            check_images(used)
        return kept

    def _refuse_classes(
        self, wrong: Iterable[str], known: Iterable[str]
    ) -> None:
        wrong, known = list(wrong), list(known)
        raise ValueError(
            f'metainfo.classes must be categories of {self.ann_file!r}, got '
            f'{len(wrong)} that are not, the first is {wrong[0]!r}'
            f'{did_you_mean(wrong[0], known)}. '
            'Use the names of that file.'
        )


@DATASETS.register_module()
class CheckedCocoDataset(_CheckedMixin, CocoDataset):
    """COCO-format data, refused before training if it cannot work.

    What MMDetection lacks: classes that the annotation file does not have are
    dropped in silence, which shifts every label behind them; a missing or
    broken image ends the run whenever a worker comes to it.

    Args:
        check_images: Look at every image file first (100,000 take seconds
            on a local disk). False switches it off.
        share_annotations: Load once a machine, in one of its processes, and
            share the memory. All processes have to make the data set then.
            False: each loads by itself.

    Raises:
        FileNotFoundError: If there is no annotation file.
        ValueError: If classes, images or annotations do not fit.

    Example config::

        dataset=dict(
            type='CheckedCocoDataset',
            data_root='data/mine/',
            ann_file='train.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=('cat', 'dog')))
    """

    def _api_of(self, pieces: AnnotationFile) -> Any:
        api = CocoWithoutAnnotations(pieces)
        return mock.patch.object(self, 'COCOAPI', lambda path: api)

    @property
    def coco(self) -> Any:
        """Annotations, which MMDetection assigns and deletes while loading."""
        return self._coco

    @coco.setter
    def coco(self, api: Any) -> None:
        names = [category['name'] for category in api.cats.values()]
        wrong = [c for c in self.metainfo['classes'] if c not in names]
        if wrong:
            self._refuse_classes(wrong, names)
        self._coco = api

    @coco.deleter
    def coco(self) -> None:
        del self._coco


@DATASETS.register_module()
class CheckedLVISV1Dataset(_CheckedMixin, LVISV1Dataset):
    """LVIS v1, refused before training if it cannot work.

    As :class:`CheckedCocoDataset`; LVIS labels are positions in the file's
    category list, so that classes and categories must agree one by one.

    Args:
        federated: Carry what is known of an image's other classes, for
            losses that ask for it: ``neg_labels``, looked for and not
            there, and ``not_exhaustive_labels``, not annotated completely.
            MMDetection reads neither. ``PackDetInputs`` hands them on when its
            ``meta_keys`` name them.
    """

    def __init__(
        self, *args: Any, federated: bool = False, **kwargs: Any
    ) -> None:
        self._federated = federated
        super().__init__(*args, **kwargs)

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse as MMDetection, with the two lists where they are wanted."""
        info = super().parse_data_info(raw_data_info)
        if self._federated:
            image = raw_data_info['raw_img_info']
            for key in ('neg', 'not_exhaustive'):
                info[f'{key}_labels'] = sorted(
                    self.cat2label[i]
                    for i in image.get(f'{key}_category_ids', ())
                    if i in self.cat2label
                )
        return info

    remedy = (
        'Download LVIS v1, or write the embedded stand-in with '
        'mmfrozen mini-lvis --out data/lvis_v1.'
    )

    def _api_of(self, pieces: AnnotationFile) -> Any:
        api = LvisWithoutAnnotations(pieces)
        return mock.patch('lvis.LVIS', lambda path: api)

    @property
    def lvis(self) -> Any:
        """Annotations, which MMDetection assigns and deletes while loading."""
        return self._lvis

    @lvis.setter
    def lvis(self, api: Any) -> None:
        names = [category['name'] for category in api.cats.values()]
        classes = list(self.metainfo['classes'])
        wrong = [
            c
            for c, n in zip(classes, names, strict=False)
            if not _same_name(c, n)
        ]
        wrong += classes[len(names) :] or names[len(classes) :]
        if wrong:
            self._refuse_classes(wrong, names)
        self._lvis = api

    @lvis.deleter
    def lvis(self) -> None:
        del self._lvis


def _same_name(a: str, b: str) -> bool:
    """Up to spelling: LVIS has stero_equipment, mmdet stereo_equipment."""
    return a == b or difflib.SequenceMatcher(None, a, b).ratio() > 0.9
