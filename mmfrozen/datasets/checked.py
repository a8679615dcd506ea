"""MMDetection's data sets with checks before training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmengine.dist import is_main_process
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
            # read() says what a file lacks that only others can read
            if self._pieces is None and Path(self.ann_file).is_file():
                name = f'{type(self).__name__}.ann_file'
                read(Path(self.ann_file), name=name)
            raise

    def _check_annotations(self, api: Any) -> None:
        """Refuse annotations that would make a wrong result, and say what
        MMDetection leaves out."""
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
        raise_first_fault(self._names_outside(used), self.ann_file)
        local = [info for info in used if '://' not in info['img_path']]
        if self._check_images and local and is_main_process():
            check_images(local, turns=not self._loads_as_stored())
        return kept

    def _names_outside(self, infos: list[dict]) -> Iterator[Fault]:
        """Paths that leave the folder that the user named."""
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
        """An option of the transforms of the pipeline that have it."""
        transforms = getattr(self.pipeline, 'transforms', ())
        return [getattr(t, name) for t in transforms if hasattr(t, name)]

    def _loads_as_stored(self) -> bool:
        """Whether images are read without the turn that EXIF asks for."""
        colours = map(str, self._options('color_type'))
        return any('ignore_orientation' in colour for colour in colours)


@DATASETS.register_module()
class CheckedCocoDataset(_CheckedMixin, CocoDataset):
    """COCO-format data, refused before training if it cannot work.

    What MMDetection lacks: labels follow the order of the annotation file, not
    that of the classes, so that two files exchange them; classes that a file
    does not have are dropped in silence, which shifts every label behind
    them; a missing or broken image ends the run whenever a worker comes to
    it. Here label i is class i in every file. A file for tests may lack
    classes.

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

    #: What metrics and tools ask: MMDetection's labels follow the file.
    labels_follow_classes = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metainfo['labels_follow_classes'] = True

    def _api_of(self, pieces: AnnotationFile) -> Any:
        api = CocoWithoutAnnotations(pieces)
        return mock.patch.object(self, 'COCOAPI', lambda path: api)

    @property
    def coco(self) -> Any:
        """Annotations, which MMDetection assigns and deletes while loading."""
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
        'Correct data_root and ann_file, download LVIS v1, or write the '
        'embedded stand-in with mmfrozen mini-lvis --out data/lvis_v1.'
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
        self._check_annotations(api)
        names = [category['name'] for category in api.cats.values()]
        classes = list(self.metainfo['classes'])
        check_positions(classes, names, self.ann_file)
        self._lvis = api

    @lvis.deleter
    def lvis(self) -> None:
        del self._lvis
