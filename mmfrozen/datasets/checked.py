"""MMDetection's datasets with checks before training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmengine.dist import get_rank, is_main_process
from mmengine.logging import print_log

from ..annotation_faults import (
    AnnotationValidator,
    Fault,
    FaultyAnnotationsError,
    is_outside,
    raise_first_fault,
)
from ..categories import ABSENT, check_positions, ids_of_classes
from ..registry import DATASETS
from .annotation_store import LoadOnce
from .check import OUTSIDE, read
from .images import check_images
from .pieces import (
    AnnotationFile,
    CocoWithoutAnnotations,
    LvisWithoutAnnotations,
)


class _CheckedMixin(LoadOnce):
    """Mixin with the checks of :class:`CheckedCocoDataset`.

    Args:
        check_images: Whether to check every image file before training; False
            saves time on slow disks.
    """

    #: Last part of the error message about a missing annotation file.
    remedy = 'Correct data_root and ann_file.'

    def __init__(
        self, *args: Any, check_images: bool = True, **kwargs: Any
    ) -> None:
        self._check_images = check_images
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Load the annotations; raise an error if the file is missing or
        damaged."""
        path = self.ann_file or ''
        if '://' not in path and not Path(path).is_file():
            raise FileNotFoundError(
                f'{type(self).__name__}.ann_file must be an existing '
                f'annotation file, got {self.ann_file!r}. {self.remedy}'
            )
        try:
            return super().load_data_list()
        except FaultyAnnotationsError:
            raise
        except (
            AssertionError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,  # not JSON, not UTF-8, numbers of 5,000 digits
        ):
            # MMDetection's reader failed: read() names the fault of the file
            if self._pieces is None and Path(self.ann_file).is_file():
                name = f'{type(self).__name__}.ann_file'
                read(Path(self.ann_file), name=name)
            raise

    def _check_annotations(self, api: Any) -> None:
        """Raise an error for annotations that would give wrong results; log
        those that MMDetection leaves out."""
        if self._pieces is not None:
            validator = self._pieces.validator
        else:
            content = api.dataset
            validator = AnnotationValidator(
                content['images'], content['categories']
            )
            raise_first_fault(validator.header(), self.ann_file)
            raise_first_fault(
                validator.annotations(content['annotations']), self.ann_file
            )
        idle = validator.crowds + validator.dropped.total()
        if idle and not validator.objects and not self.test_mode:
            raise ValueError(
                f'{self.ann_file!r} must have objects to train on, got '
                f'{validator.describe()}. Correct the file.'
            )
        if validator.without_mask and any(self._options('with_mask')):
            raise ValueError(
                f'Objects of {self.ann_file!r} must have a segmentation for '
                'with_mask=True of the pipeline, got none in annotation '
                f'{validator.without_mask[0]}. Annotate masks, or set '
                'with_mask=False, and paste_by_box=True in SimpleCopyPaste.'
            )
        if validator.dropped.total() and is_main_process():
            print_log(
                f'{self.ann_file!r} has {validator.describe()}.',
                logger='current',
            )

    def filter_data(self) -> list[dict]:
        """Filter as MMDetection does, and check the images that are kept."""
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
        raise_first_fault(self._names_outside(used), self.ann_file)
        local = [info for info in used if '://' not in info['img_path']]
        if self._check_images and local and _is_first_on_machine():
            check_images(local, turns=not self._loads_as_stored())
        return kept

    def _names_outside(self, infos: list[dict]) -> Iterator[Fault]:
        """Yield a fault for each image path outside the image folder."""
        folder = self.data_prefix.get('img', '')
        for info in infos:
            name = info['img_path']
            if folder and name.startswith(folder):
                name = name[len(folder) :].lstrip('/')
            if is_outside(name, folder):
                yield Fault(
                    OUTSIDE,
                    f'image {info["img_id"]!r:.80}',
                    f'a file_name in data_prefix.img ({folder!r})',
                    repr(name),
                )

    def _options(self, name: str) -> list[Any]:
        """Return an option of each transform of the pipeline that has it."""
        transforms = getattr(self.pipeline, 'transforms', ())
        return [getattr(t, name) for t in transforms if hasattr(t, name)]

    def _loads_as_stored(self) -> bool:
        """Return whether images are loaded without their EXIF rotation."""
        colours = map(str, self._options('color_type'))
        return any('ignore_orientation' in colour for colour in colours)


def _is_first_on_machine() -> bool:
    """Return whether this is the first process of its machine, by the
    launcher; another machine may have its own copy of the images."""
    return int(os.environ.get('LOCAL_RANK', get_rank())) == 0


@DATASETS.register_module()
class CheckedCocoDataset(_CheckedMixin, CocoDataset):
    """A COCO-format dataset whose faults are reported before training.

    What MMDetection lacks: labels follow the order of the annotation file, not
    that of the classes, so that the same class can have different labels in
    two files; classes that a file lacks are dropped without a message, which
    shifts all later labels; a missing or broken image ends the run only when a
    worker loads it. Here label i is class i in every file. An annotation file
    for testing may lack classes.

    Args:
        check_images: Whether to check every image file before training
            (100,000 take seconds on a local disk).
        share_annotations: Whether one process per machine loads for the
            others; all processes must then build the dataset. False: each
            process loads its own copy.

    Raises:
        FileNotFoundError: If the annotation file does not exist.
        ValueError: If classes, images or annotations have faults.

    Example config::

        dataset=dict(
            type='CheckedCocoDataset',
            data_root='data/mine/',
            ann_file='train.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=('cat', 'dog')))
    """

    #: Read by metrics and tools; MMDetection's labels follow the file.
    labels_follow_classes = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metainfo['labels_follow_classes'] = True

    def _api_of(self, pieces: AnnotationFile) -> Any:
        api = CocoWithoutAnnotations(pieces)
        return mock.patch.object(self, 'COCOAPI', lambda path: api)

    @property
    def coco(self) -> Any:
        """Return the API object that MMDetection assigns and then deletes."""
        return self._coco

    @coco.setter
    def coco(self, api: Any) -> None:
        self._check_annotations(api)
        classes = self.metainfo['classes']
        ids = ids_of_classes(
            classes,
            list(api.cats),
            [category['name'] for category in api.cats.values()],
            self.ann_file,
            allow_missing=self.test_mode,
        )
        if ABSENT in ids:
            print_log(
                f'{ids.count(ABSENT)} of {len(ids)} classes are not '
                f'categories of {self.ann_file!r}: they are not evaluated.',
                logger='current',
            )
        api.get_cat_ids = lambda **_: ids
        self._coco = api

    @coco.deleter
    def coco(self) -> None:
        del self._coco


@DATASETS.register_module()
class CheckedLVISV1Dataset(_CheckedMixin, LVISV1Dataset):
    """An LVIS v1 dataset whose faults are reported before training.

    It is checked like :class:`CheckedCocoDataset`. LVIS labels are positions
    in the file's category list, so classes and categories must agree one by
    one.

    Args:
        federated: Whether to add what is known about other classes of an
            image, for transforms and losses that use it: ``neg_labels``,
            classes that are absent, and ``not_exhaustive_labels``, classes
            that are not annotated completely. MMDetection reads neither.
            ``PackDetInputs`` keeps them if its ``meta_keys`` list them.
    """

    def __init__(
        self, *args: Any, federated: bool = False, **kwargs: Any
    ) -> None:
        self._federated = federated
        super().__init__(*args, **kwargs)

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse like MMDetection; add both lists if ``federated`` is set."""
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
        'Correct data_root and ann_file, download LVIS v1, or write the '
        'embedded stand-in with mmfrozen mini-lvis --out data/lvis_v1.'
    )

    def _api_of(self, pieces: AnnotationFile) -> Any:
        api = LvisWithoutAnnotations(pieces)
        return mock.patch('lvis.LVIS', lambda path: api)

    @property
    def lvis(self) -> Any:
        """Return the API object that MMDetection assigns and then deletes."""
        return self._lvis

    @lvis.setter
    def lvis(self, api: Any) -> None:
        self._check_annotations(api)
        names = [category['name'] for category in api.cats.values()]
        classes = list(self.metainfo['classes'])
        check_positions(classes, names, self.ann_file)
        self._lvis = api

    @lvis.deleter
    def lvis(self) -> None:
        del self._lvis
