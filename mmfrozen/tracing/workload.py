"""The workload of a training step: batch, image shape, dtype and objects."""

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

#: Height and width in pixels.
Shape = tuple[int, int]
DTYPES = ('fp32', 'bf16', 'fp16')


@dataclass(frozen=True)
class Workload:
    """The workload of a training step.

    Attributes:
        shape: Height and width of the images in pixels.
        shape_source: Description of where the shape was read.
        batch_size: Number of images.
        dtype: ``'fp32'``, or the autocast dtype ``'bf16'`` or ``'fp16'``.
        objects: Number of annotated objects per image.
        masks: Whether the objects have masks.
        rois: Number of regions of interest per image that are sampled for the
            heads; None to use the config's samplers as they are.
        positives: Number of them that are positive; None to use the config's
            fraction.
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
    """Read the workload of a config's training step.

    Args:
        cfg: Config of an experiment.
        shape: Replacement for the size that its train pipeline outputs.
        batch_size: Replacement for the train dataloader's batch size.
        dtype: Replacement for the optimizer wrapper's dtype.

    Raises:
        ValueError: If the config has no image size or batch size.
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
    """Return whether a config's train pipeline loads masks.

    Detectors such as RTMDet use masks whenever there are any. True if the
    pipeline has no step that loads boxes.
    """
    loaders = [step for step in _steps(cfg) if step.get('with_bbox')]
    return not loaders or any(
        step.get('with_mask', 'Panoptic' in _name(step)) for step in loaders
    )


def read_dtype(cfg: Config) -> str:
    """Return the dtype in which a config trains."""
    wrapper = cfg.get('optim_wrapper') or {}
    kind = find_type(wrapper.get('type'), OPTIM_WRAPPERS)
    if not (inspect.isclass(kind) and issubclass(kind, AmpOptimWrapper)):
        return 'fp32'
    return 'bf16' if 'bfloat16' in str(wrapper.get('dtype')) else 'fp16'


def read_classes(cfg: Config) -> tuple[str, ...]:
    """Return the class names of a config's train data set.

    They are COCO's if neither the data set's config nor its class has any.
    """
    for dataset in _datasets(cfg):
        kind = find_type(dataset.get('type'), DATASETS)
        for known in (dataset.get('metainfo'), getattr(kind, 'METAINFO', {})):
            if known and known.get('classes'):
                return tuple(known['classes'])
    return tuple(CocoDataset.METAINFO['classes'])


def set_rois(model: Any, work: Workload) -> None:
    """Write ``rois`` and ``positives`` of a workload into a model's config.

    Raises:
        ValueError: If no sampler has a number of regions, or if there are more
            positives than regions.
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
    """Return the image size of a training batch.

    If images differ in size, it is the largest size, in landscape format.

    Returns:
        Height and width in pixels, and a description of where they were read.

    Raises:
        ValueError: If neither the train pipeline nor the preprocessor sets a
            size.
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
    """Return the name of the transform that makes the size of training images
    vary within or between batches; None if all have one size."""
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
    """Yield the steps of the train pipelines, inner data sets' first."""
    for dataset in _datasets(cfg):
        for step in dataset.get('pipeline') or ():
            if isinstance(step, dict):
                yield step


def _datasets(cfg: Config) -> Iterator[dict[str, Any]]:
    """Yield the configs of the train data set and its inner data sets,
    innermost first."""
    loader = cfg.get('train_dataloader') or {}
    datasets = [loader.get('dataset') or {}]
    while isinstance(datasets[-1], dict):
        inner = datasets[-1].get('dataset') or datasets[-1].get('datasets')
        if not inner:
            break
        datasets.append(inner[0] if isinstance(inner, list) else inner)
    yield from reversed(datasets)


def _apply(step: dict[str, Any], size: Shape | None) -> Shape | None:
    """Return the image size after a pipeline step, given the one before."""
    rule = RULES.get(_name(step))
    return rule(step, size) if rule else size


def _pair(value: Any) -> tuple[float, float]:
    return (value, value) if isinstance(value, (int, float)) else tuple(value)


def _largest(scales: Any) -> tuple[float, float]:
    """Return the largest area's (width, height) of one or several."""
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
    # keep_ratio is False by default in Resize, True in RandomResize and others
    keeps = inner.get('keep_ratio', _name(step) != 'Resize')
    if keeps:  # either side may be the longer one: landscape is assumed
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
    """Return the largest size that one of several pipelines outputs."""
    found = []
    for branch in step.get('transforms') or ():
        end = size
        for inner in branch if isinstance(branch, list) else [branch]:
            end = _apply(inner, end)
        if end is not None:
            found.append(end)
    return max(found, key=math.prod, default=size)


#: Functions from a step's config and the image size before it to the size
#: after it, by name of the transform.
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
    """Return a copy of a workload with another batch size."""
    return replace(work, batch_size=batch_size)
