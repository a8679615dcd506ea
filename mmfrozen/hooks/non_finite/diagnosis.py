"""Diagnosis of where NaN or infinity in an update comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ...errors import one_line
from ...run_files import NON_FINITE, NonFiniteRecord
from ..runner_access import find_model

#: Maximum number of images named in a message.
NUM_NAMED = 8
REMEDIES = {
    'pixels': 'Check these images, and data_preprocessor.std.',
    'boxes': 'Check their annotations (mmfrozen check) and the transforms.',
    'features in float16': 'The frozen backbone overflows in float16: set '
    "optim_wrapper.dtype='bfloat16', or FrozenEngineHook's dtype='fp32'.",
    'features': "Check the classifier's weights, and the dtype of "
    'FrozenEngineHook.',
    'overflow': "Set optim_wrapper.dtype='bfloat16', or look for a layer "
    'whose gradients are not finite.',
    '': 'Resume with a lower rate, a longer warm-up or '
    'optim_wrapper.clip_grad; if single images cause it, remove them, or skip '
    "their steps with policy='skip'.",
}


@dataclass(frozen=True)
class Batch:
    """One step of the training loop.

    Attributes:
        iter: Number of the iteration, from 1.
        data: The batch as loaded.
        outputs: Losses and other values returned by the model's
            ``train_step``.
    """

    iter: int
    data: Any
    outputs: dict[str, Any]

    def losses(self) -> dict[str, float]:
        """Return the scalar losses by name."""
        return {
            name: torch.as_tensor(value).item()
            for name, value in self.outputs.items()
            if 'loss' in name and torch.as_tensor(value).numel() == 1
        }

    def samples(self) -> list[Any]:
        """Return the data samples, one per image."""
        data = self.data if isinstance(self.data, dict) else {}
        return list(data.get('data_samples') or [])


def diagnose(
    runner: Runner, batches: list[Batch], gradients: list[str], cause: str
) -> NonFiniteRecord:
    """Diagnose the batches of a faulty update, in this process.

    Args:
        runner: The runner.
        batches: The batches of one update; several with gradient accumulation.
        gradients: Names of parameters with non-finite gradients.
        cause: A key of ``REMEDIES`` if it is already known, or ``''``.
    """
    losses = [batch.losses() for batch in batches]
    faulty = [
        i
        for i, values in enumerate(losses)
        if not all(map(math.isfinite, values.values()))
    ]
    suspects = [batches[i] for i in faulty] or batches
    found, images = cause, []
    for batch in suspects:
        try:
            found, images = _inspect_batch(runner, batch)
        except Exception as error:  # a diagnosis must not hide the fault
            runner.logger.warning(
                f'A batch could not be examined: {one_line(error)}'
            )
        if found:
            break
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return NonFiniteRecord(
        iter=suspects[-1].iter,
        rank=get_rank(),
        found_in=found or cause,
        images=[_image(s) for batch in suspects for s in batch.samples()],
        faulty_images=images,
        losses=losses[faulty[0]] if faulty else losses[-1],
        gradients=[] if faulty else gradients,
        learning_rate=runner.optim_wrapper.get_lr()['lr'][0],
        loss_scale=scaler.get_scale() if scaler else None,
    )


def _image(sample: Any) -> str:
    """Return an image's id and path, such as ``'139 (train2017/139.jpg)'``."""
    info = getattr(sample, 'metainfo', {})
    return f'{info.get("img_id", "?")} ({info.get("img_path", "?")})'


def _inspect_batch(runner: Runner, batch: Batch) -> tuple[str, list[str]]:
    """Return what is non-finite in the input of the trainable layers.

    Returns:
        A key of ``REMEDIES`` for boxes, pixels or frozen features; ``''`` if
        all are finite. And the names of the images concerned.
    """
    names = [_image(sample) for sample in batch.samples()]
    bad = [
        name
        for name, sample in zip(names, batch.samples(), strict=True)
        if not _is_finite(sample.gt_instances.bboxes)
    ]
    if bad:
        return 'boxes', bad
    model = find_model(runner)
    with torch.no_grad(), runner.optim_wrapper.optim_context(model):
        images = model.data_preprocessor(batch.data, True)['inputs']
        has_pixels = any(images.stride())  # none with FeatureCacheHook
        bad = _faulty(images, names) if has_pixels else []
        if bad:
            return 'pixels', bad
        if any(p.requires_grad for p in model.backbone.parameters()):
            return '', []  # the backbone has been updated since
        for level in tree_leaves(model.backbone(images)):
            bad = _faulty(level, names)
            if bad:
                half = level.dtype == torch.float16
                return 'features in float16' if half else 'features', bad
    return '', []


def _faulty(tensor: Tensor, names: list[str]) -> list[str]:
    """Return the names of the images with non-finite values.

    Args:
        tensor: (N, ...), one entry for each image.
        names: Names of the N images.
    """
    return [
        name
        for name, image in zip(names, tensor, strict=True)
        if not _is_finite(image)
    ]


def _is_finite(tensor: Any) -> bool:
    tensor = getattr(tensor, 'tensor', tensor)  # unwrap MMDetection's boxes
    return bool(torch.isfinite(tensor).all())


def explain(records: list[NonFiniteRecord], num_parameters: int) -> str:
    """Return a one-line message about a non-finite update.

    Args:
        records: One record per process.
        num_parameters: Number of parameters with gradients.
    """
    told = [r for r in records if r.faulty_images or not r.gradients]
    record = (told or records)[0]
    place, images = f'on rank {record.rank}', record.images
    if len(records) > 1 and not told:  # all processes have the same gradients
        place = 'in all processes'
        images = [image for r in records for image in r.images]
    if record.gradients:
        parts = [
            f'the gradients of {len(record.gradients)} of {num_parameters} '
            'parameters, the first in the backward pass is '
            f'{record.gradients[0]}'
        ]
    else:
        bad = [
            f'{name} is {value}'
            for name, value in record.losses.items()
            if value is not None and not math.isfinite(value)
        ]
        parts = bad[1:] or bad  # the sum of the losses comes first
    if record.faulty_images:
        what = record.found_in.partition(' in ')[0]
        if what == 'features':
            what += ' of the frozen backbone'
        parts.append(
            f'already the {what} are not finite, for '
            + _shorten(record.faulty_images)
        )
    else:
        parts.append(f'the images are {_shorten(images)}')
    parts.append(f'the learning rate is {record.learning_rate:g}')
    if record.loss_scale is not None:
        parts.append(f'the loss scale {record.loss_scale:g}')
    return (
        f'Losses and gradients must be finite, got at iteration {record.iter} '
        f'{place}: {"; ".join(parts)}. {REMEDIES[record.found_in]} '
        f'{NON_FINITE.name} has the whole record.'
    )


def _shorten(names: list[str]) -> str:
    more = len(names) - NUM_NAMED
    return ', '.join(names[:NUM_NAMED]) + (
        f' and {more} more' if more > 0 else ''
    )
