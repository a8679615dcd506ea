"""This module runs data preprocessor and backbone of a detector without its
heads, to compute the features that a cache stores."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..engine import FrozenEngine
from ..errors import one_line, remedy_for
from ..freezing import find_faults

CONTAINERS = {tuple: 'tuple', list: 'list', Tensor: 'tensor'}


class Batch(NamedTuple):
    """Features and data samples of one batch, as a training step has them.

    Attributes:
        levels: Feature maps of each level, (N, C, ...) fp32 on the CPU.
        container: Type in which the backbone returns them, a value of
            ``CONTAINERS``.
        samples: Data samples as they leave the data preprocessor, on the CPU.
        image_shape: Channels, height and width of the batch's images.
    """

    levels: list[Tensor]
    container: str
    samples: list[Any]
    image_shape: tuple[int, ...]


class Forwarder:
    """Function that computes the features of batches.

    Args:
        model: Detector that :func:`build_model` returned.
        is_bf16: Whether the backbone runs under autocast to bf16.
        say: Function that logs a line; None to run without an inference
            engine.

    Attributes:
        seconds: Time that the backbone took so far.
    """

    def __init__(
        self,
        model: Any,
        *,
        is_bf16: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._model, self._is_bf16, self._size = model, is_bf16, 0
        self.seconds = 0.0
        if say:
            FrozenEngine(model.backbone, lambda: True, log=say)

    def __call__(self, batch: Any) -> Batch:
        """Run data preprocessor and backbone on a batch.

        Args:
            batch: Batch as the data loader returns it.

        Returns:
            Features and data samples of its images.

        Raises:
            ValueError: If images differ in size, or the backbone returns
                neither a tuple, a list nor a tensor.
        """
        _check_sizes(batch['inputs'])
        count = len(batch['inputs'])
        self._size = max(self._size, count)
        with torch.no_grad():
            data = self._model.data_preprocessor(batch, True)
            images, start = data['inputs'], time.perf_counter()
            # an engine runs one batch size: fill up a smaller last batch
            filler = images[-1:].expand(self._size - count, -1, -1, -1)
            with (
                torch.autocast(images.device.type, torch.bfloat16)
                if self._is_bf16
                else nullcontext()
            ):
                found = self._model.backbone(torch.cat((images, filler)))
            if type(found) not in CONTAINERS:
                raise ValueError(
                    'The backbone must return a tuple or list of feature '
                    f'maps for a feature cache, got {type(found).__name__}.'
                )
            levels = [x[:count].float().cpu() for x in tree_leaves(found)]
        self.seconds += time.perf_counter() - start
        samples = [sample.cpu() for sample in data['data_samples']]
        shape = tuple(images.shape[1:])
        return Batch(levels, CONTAINERS[type(found)], samples, shape)


def _check_sizes(images: Any) -> None:
    sizes = sorted({f'{x.shape[1]} x {x.shape[2]}' for x in images})
    if len(sizes) > 1:
        raise ValueError(
            'Views must have one size for a feature cache, got '
            f'{" and ".join(sizes[:3])}. End the pipeline with RandomCrop '
            'and Pad to one size, as large scale jitter does.'
        )


def build_model(config: Config) -> nn.Module:
    """Return a detector with its backbone's weights loaded as for training.

    Args:
        config: Config of the run.

    Returns:
        The detector in training mode, on the default device. Only the
        backbone has its weights loaded.

    Raises:
        ValueError: If the model cannot be built, the backbone is not frozen
            as a whole, or the data preprocessor augments batches.
    """
    try:
        model = MODELS.build(config.model)
        model.backbone.init_weights()
        if config.get('load_from'):
            _load(model.backbone, config.load_from)
    except Exception as error:  # a constructor can raise anything
        raise ValueError(
            'The model of CONFIG must be built and filled, got '
            f'{one_line(error)}. {remedy_for(error)}'
        ) from error
    model.train()
    faults = find_faults(model.backbone)
    if faults:
        raise ValueError(
            'The backbone must be frozen as a whole for a feature cache, got '
            f'{"; ".join(faults)}. Freeze it, without adapters.'
        )
    check_preprocessor(model)
    return model.to(get_device())


def check_preprocessor(model: Any) -> None:
    """Check that a cache can replace the output of the data preprocessor.

    Raises:
        ValueError: If it is no ``DetDataPreprocessor``, or has
            ``batch_augments``.
    """
    found = model.data_preprocessor
    if not isinstance(found, DetDataPreprocessor) or found.batch_augments:
        raise ValueError(
            'model.data_preprocessor must be a DetDataPreprocessor without '
            f'batch_augments for a feature cache, got {type(found).__name__}'
            ' with others. Augment single images.'
        )


def _load(backbone: nn.Module, checkpoint: str) -> None:
    """Load the backbone's weights from a ``load_from`` checkpoint, if any."""
    content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    prefix = 'backbone.'
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in content.get('state_dict', content).items()
        if name.startswith(prefix)
    }
    if own:
        backbone.load_state_dict(own)
