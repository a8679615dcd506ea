"""Workload of a training step: batch, image shape, dtype, objects."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS, MODELS, OPTIM_WRAPPERS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper

from ..type_names import find_type, known_name

#: Height and width, pixels.
Shape = tuple[int, int]
DTYPES = ('fp32', 'bf16', 'fp16')


@dataclass(frozen=True)
class Workload:
    """What a training step works on.

    Attributes:
        shape: Height and width of the batch, pixels.
        shape_source: Where it is from.
        batch_size: Images.
        dtype: ``'fp32'``, or that of autocast: ``'bf16'``, ``'fp16'``.
        objects: Annotated objects of an image.
        masks: Whether they have masks.
        rois: Regions of interest of an image that are sampled for the heads;
            None as the config's samplers say.
        positives: Those of them that hold an object; None likewise.
    """

    shape: Shape
    shape_source: str
    batch_size: int
    dtype: str = 'fp32'
    objects: int = 8
    masks: bool = True
    rois: int | None = None
    positives: int | None = None


def read_workload(
    cfg: Config,
    *,
    shape: Shape | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
) -> Workload:
    """Read what a config trains on.

    Args:
        cfg: Of an experiment.
        shape: Instead of the size that its train pipeline makes.
        batch_size: Instead of its train dataloader's.
        dtype: Instead of its optimizer wrapper's.

    Raises:
        ValueError: If the config does not say it.
    """
    source = 'as set'
    if shape is None:
        shape, source = read_shape(cfg)
    if batch_size is None:
        batch_size = (cfg.get('train_dataloader') or {}).get('batch_size')
        if not batch_size:
            raise ValueError(
                'train_dataloader.batch_size must be in CONFIG, got none. '
                'Set --batch-size.'
            )
    return Workload(
        shape,
        source,
        batch_size,
        dtype or read_dtype(cfg),
        masks=read_masks(cfg),
    )


def read_masks(cfg: Config) -> bool:
    """Read whether a train pipeline loads masks: RTMDet, for one, reads them
    where they are. True where it does not say what it loads."""
    loaders = [step for step in _steps(cfg) if step.get('with_bbox')]
    return not loaders or any(
        step.get('with_mask', 'Panoptic' in _name(step)) for step in loaders
    )


def read_dtype(cfg: Config) -> str:
    """Read in which dtype a config trains."""
    wrapper = cfg.get('optim_wrapper') or {}
    kind = find_type(wrapper.get('type'), OPTIM_WRAPPERS)
    if not (inspect.isclass(kind) and issubclass(kind, AmpOptimWrapper)):
        return 'fp32'
    return 'bf16' if 'bfloat16' in str(wrapper.get('dtype')) else 'fp16'


def read_classes(cfg: Config) -> tuple[str, ...]:
    """Read the names of the classes of a data set; COCO's where its config
    and its class do not say them."""
    for dataset in _datasets(cfg):
        kind = find_type(dataset.get('type'), DATASETS)
        for known in (dataset.get('metainfo'), getattr(kind, 'METAINFO', {})):
            if known and known.get('classes'):
                return tuple(known['classes'])
    return tuple(CocoDataset.METAINFO['classes'])


def set_rois(model: Any, work: Workload) -> None:
    """Write ``rois`` and ``positives`` of a workload into a model's config.

    Raises:
        ValueError: If there is no sampler for them, or they do not fit.
    """
    if work.rois is None and work.positives is None:
        return
    train_cfg = model.get('train_cfg') or {}
    stages = train_cfg.get('rcnn') or []
    stages = stages if isinstance(stages, (list, tuple)) else [stages]
    samplers = [s.sampler for s in stages if 'num' in (s.get('sampler') or {})]
    if not samplers:
        raise ValueError(
            '--rois and --positives must have a model.train_cfg.rcnn.sampler '
            f'with num, got a {model.type} without. Remove these options.'
        )
    for sampler in samplers:
        num = work.rois or sampler.num
        positives = work.positives
        if positives is not None:
            if positives > num:
                raise ValueError(
                    f'--positives must be at most the {num} sampled RoIs of '
                    f'an image, got {positives}. Set --rois too.'
                )
            # samplers take int(num * share)
            sampler.pos_fraction = (positives + 0.5) / num
        sampler.num = num


def read_shape(cfg: Config) -> tuple[Shape, str]:
    """Read the size of a training batch.

    Where images differ in size it is the largest, as landscape.

    Returns:
        Height and width in pixels, and where they are from.

    Raises:
        ValueError: If neither the train pipeline nor the preprocessor says.
    """
    size: Shape | None = None
    source = ''
    for step in _steps(cfg):
        new = _apply(step, size)
        if new is not None and new != size:
            size, source = new, f'{_name(step)} of the train pipeline'
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    for augment in preprocessor.get('batch_augments') or ():
        name = known_name(find_type(augment.get('type'), MODELS))
        if augment.get('size') and 'Pad' in name:
            height, width = augment['size']
            size = (height, width)
            source = f'{name} of model.data_preprocessor'
    if size is None:
        raise ValueError(
            'The train pipeline of CONFIG must resize, crop or pad images to '
            'a known size, got none that does. Set --shape HEIGHT WIDTH.'
        )
    divisor = preprocessor.get('pad_size_divisor') or 1
    height, width = (math.ceil(side / divisor) * divisor for side in size)
    return (height, width), source


def find_varying(cfg: Config) -> str | None:
    """Name the transform by which images of a batch get sizes that differ
    from one another or from those of other batches; None if none does."""
    found = None
    for step in _steps(cfg):
        name = _name(step)
        if _fixes_size(name, step):
            found = None
        elif _varies_size(name, step):
            found = name
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    for augment in preprocessor.get('batch_augments') or ():
        name = known_name(find_type(augment.get('type'), MODELS))
        if 'Pad' in name and augment.get('size'):
            found = None
        elif 'Resize' in name:
            found = name
    return found


def _fixes_size(name: str, step: dict[str, Any]) -> bool:
    if name == 'Resize':
        return not step.get('keep_ratio')
    if name == 'Pad':
        return bool(step.get('size'))
    return name in ('FixShapeResize', 'Mosaic', 'CachedMosaic') or (
        name == 'RandomCenterCropPad' and bool(step.get('crop_size'))
    )


def _varies_size(name: str, step: dict[str, Any]) -> bool:
    if name == 'RandomCrop':
        return step.get('crop_type', 'absolute') != 'absolute'
    return name in RULES.keys() - {'Pad', 'RandomAffine'} or name in (
        'Expand',
        'MinIoURandomCrop',
    )


def _name(step: Any) -> str:
    return known_name(find_type(step.get('type'), TRANSFORMS))


def _steps(cfg: Config) -> Iterator[dict[str, Any]]:
    """Steps of the train pipelines, those of inner data sets first."""
    for dataset in _datasets(cfg):
        for step in dataset.get('pipeline') or ():
            if isinstance(step, dict):
                yield step


def _datasets(cfg: Config) -> Iterator[dict[str, Any]]:
    """The train data set, those inside of it first."""
    loader = cfg.get('train_dataloader') or {}
    datasets = [loader.get('dataset') or {}]
    while datasets and isinstance(datasets[-1], dict):
        inner = datasets[-1].get('dataset') or datasets[-1].get('datasets')
        if not inner:
            break
        datasets.append(inner[0] if isinstance(inner, list) else inner)
    yield from reversed(datasets)


def _apply(step: dict[str, Any], size: Shape | None) -> Shape | None:
    """The size after a step of a pipeline, given the one before."""
    rule = RULES.get(_name(step))
    return rule(step, size) if rule else size


def _pair(value: Any) -> tuple[float, float]:
    return (value, value) if isinstance(value, (int, float)) else tuple(value)


def _largest(scales: Any) -> tuple[float, float]:
    """The largest of one or several (width, height)."""
    if _several(scales):
        return max((_pair(s) for s in scales), key=math.prod)
    return _pair(scales)


def _several(scales: Any) -> bool:
    return isinstance(scales, (list, tuple)) and isinstance(
        scales[0], (list, tuple)
    )


def _resize(step: dict[str, Any], size: Shape | None) -> Shape | None:
    scale = step.get('scale') or step.get('scales')
    if not scale:
        return size
    width, height = _largest(scale)
    ratio = step.get('ratio_range')
    if ratio and not _several(scale):
        width, height = width * ratio[1], height * ratio[1]
    inner = step.get('resize_cfg') or step
    # MMDetection's Resize keeps no ratio unless told to, its Random... do
    keeps = inner.get('keep_ratio', _name(step) != 'Resize')
    if keeps:  # within the edges, whichever is the longer: as landscape
        width, height = max(width, height), min(width, height)
    return int(height), int(width)


def _crop(step: dict[str, Any], size: Shape | None) -> Shape | None:
    if step.get('crop_type', 'absolute') != 'absolute':
        return size
    width, height = step['crop_size']
    if size is None:
        return int(height), int(width)
    return min(size[0], int(height)), min(size[1], int(width))


def _pad(step: dict[str, Any], size: Shape | None) -> Shape | None:
    if step.get('size'):
        width, height = _pair(step['size'])
        return int(height), int(width)
    if size is None:
        return None
    if step.get('pad_to_square'):
        return max(size), max(size)
    divisor = step.get('size_divisor') or 1
    height, width = (math.ceil(side / divisor) * divisor for side in size)
    return height, width


def _mosaic(step: dict[str, Any], size: Shape | None) -> Shape:
    width, height = _pair(step.get('img_scale', 640))
    return int(2 * height), int(2 * width)


def _affine(step: dict[str, Any], size: Shape | None) -> Shape | None:
    if size is None:
        return None
    border = step.get('border', (0, 0))
    return int(size[0] + 2 * border[1]), int(size[1] + 2 * border[0])


def _center_crop(step: dict[str, Any], size: Shape | None) -> Shape | None:
    if not step.get('crop_size'):
        return size
    height, width = step['crop_size']
    return int(height), int(width)


def _fixed(step: dict[str, Any], size: Shape | None) -> Shape:
    return int(step['height']), int(step['width'])


def _choice(step: dict[str, Any], size: Shape | None) -> Shape | None:
    """The largest that one of several pipelines makes."""
    found = []
    for branch in step.get('transforms') or ():
        end = size
        for inner in branch if isinstance(branch, list) else [branch]:
            end = _apply(inner, end)
        if end is not None:
            found.append(end)
    return max(found, key=math.prod, default=size)


#: By transform: the size of images after it.
RULES: dict[str, Callable[[dict[str, Any], Shape | None], Shape | None]] = {
    'Resize': _resize,
    'RandomResize': _resize,
    'RandomChoiceResize': _resize,
    'FixScaleResize': _resize,
    'ResizeShortestEdge': _resize,
    'FixShapeResize': _fixed,
    'RandomCrop': _crop,
    'RandomCenterCropPad': _center_crop,
    'Pad': _pad,
    'Mosaic': _mosaic,
    'CachedMosaic': _mosaic,
    'RandomAffine': _affine,
    'RandomChoice': _choice,
}


def with_batch(work: Workload, batch_size: int) -> Workload:
    """The same with another batch size."""
    return replace(work, batch_size=batch_size)
