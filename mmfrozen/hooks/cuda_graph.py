"""Replay the static part of a training step as a CUDA graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..engine import autocast_dtype
from ..registry import HOOKS
from .runner_access import find_model

#: Largest difference from the plain outputs, as a share of their largest
#: number. The same kernels run, but cuDNN may choose others for a capture.
TOLERANCE = 1e-2


@HOOKS.register_module()
class CUDAGraphHook(Hook):
    """Launches backbone, neck and region proposals as one CUDA graph.

    What MMEngine lacks: its ``compile`` waits for minutes and compiles anew
    for each number of objects. With large scale jitter all batches have one
    shape, and what does not depend on the objects can be captured at the
    first batch. The step is the same, without the time that Python takes to
    launch some hundred kernels; their activations stay reserved. It needs one
    GPU, a ``BatchedTwoStageDetector`` and no accumulation of gradients, and
    says so in the log where that is not given.

    Example config::

        custom_hooks = [
            dict(type='NumClassCheckHook'),
            dict(type='mmfrozen.CUDAGraphHook')]
    """

    def before_train(self, runner: Runner) -> None:
        """Prepare the model; the capture is at its first batch."""
        model = find_model(runner)
        reason = _why_not(runner, model)
        if reason:
            runner.logger.warning(
                f'CUDAGraphHook must have {reason}. The step runs as it is.'
            )
            return
        model.run_static = GraphedStaticPart(model)

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        vars(find_model(runner)).pop('run_static', None)


def _why_not(runner: Runner, model: Any) -> str | None:
    if not hasattr(model, 'run_static'):
        return f'a BatchedTwoStageDetector, got {type(model).__name__}'
    if get_world_size() > 1:
        return f'one process, got {get_world_size()}'
    if getattr(runner.optim_wrapper, '_accumulative_counts', 1) > 1:
        return 'optim_wrapper.accumulative_counts=1'
    if not torch.cuda.is_available():
        return 'a CUDA device, got none'
    return None


class StaticPart(nn.Module):
    """Backbone, neck and region proposal network as one module.

    Args:
        detector: A ``BatchedTwoStageDetector``.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        parts = (detector.backbone, detector.neck, detector.rpn_head)
        self.parts = nn.ModuleList(parts)
        self.run = detector.run_static

    def forward(self, images: Tensor) -> Any:
        """See ``BatchedTwoStageDetector.run_static``."""
        return self.run(images)


def capture(part: StaticPart, images: Tensor) -> Callable[[Tensor], Any]:
    """Capture a forward and a backward pass.

    Args:
        part: On a GPU; its ``forward`` is replaced.
        images: (N, 3, H, W) of the size that is captured.
    """
    options: dict[str, Any] = dict(allow_unused_input=True)
    # a thread that pins batches may go on
    mode = 'capture_error_mode'
    if mode in inspect.signature(torch.cuda.make_graphed_callables).parameters:
        options[mode] = 'thread_local'
    return torch.cuda.make_graphed_callables(part, (images,), **options)


class GraphedStaticPart:
    """Takes the place of ``run_static`` of a detector.

    The first batch is captured, and the result compared with the plain pass.
    Batches of another size or dtype run plainly, and so do all if the capture
    fails or differs; the log says so.

    Args:
        detector: A ``BatchedTwoStageDetector`` on a GPU.
    """

    def __init__(self, detector: Any) -> None:
        self._plain = detector.run_static
        self._part = StaticPart(detector)
        self._graph: Callable[[Tensor], Any] | None = None
        self._key: Any = None
        self._said: set[str] = set()

    def __call__(self, images: Tensor) -> Any:
        """Replay the graph, or run plainly."""
        key = (tuple(images.shape), images.dtype, autocast_dtype('cuda'))
        if self._key is None:
            self._key = key
            self._graph = self._captured(images)
        if self._graph is None:
            return self._plain(images)
        if key != self._key:
            self._say(
                f'Batches of {key[0]} run without the CUDA graph, which was '
                f'captured at {self._key[0]}. Crop and pad images to one size.'
            )
            return self._plain(images)
        return self._graph(images)

    def _captured(self, images: Tensor) -> Callable[[Tensor], Any] | None:
        # a resumed run goes on with the random numbers of one that replays
        devices = [images.device] if images.is_cuda else []
        with (
            _kept_buffers(self._part),
            _no_autocast_cache(),
            torch.random.fork_rng(devices),
        ):
            try:
                graph = capture(self._part, images.clone())
                with torch.no_grad():
                    found = tree_leaves(graph(images))
                    found = [x.clone() for x in found]
                    wanted = tree_leaves(self._plain(images))
            except Exception as error:  # whatever cannot be captured
                reason = str(error).partition('\n')[0]
                self._say(
                    f'The step runs without a CUDA graph: {reason}', level=30
                )
                return None
        errors = [
            (a - b).abs().max() / b.abs().max().clamp(min=1e-12)
            for a, b in zip(found, wanted, strict=True)
        ]
        error = float(torch.stack(errors).max())  # NaN if any is
        if not error <= TOLERANCE:
            self._say(
                'The step runs without a CUDA graph, whose outputs differ by '
                f'{error:.1%} from the plain ones.',
                level=30,
            )
            return None
        self._say(
            f'Backbone, neck and region proposals run as a CUDA graph at '
            f'{tuple(images.shape)}; largest difference {error:.1e}.'
        )
        return graph

    def _say(self, message: str, level: int = 20) -> None:
        if message not in self._said:
            self._said.add(message)
            print_log(message, logger='current', level=level)


@contextmanager
def _kept_buffers(part: nn.Module) -> Iterator[None]:
    """Put back the statistics that trial passes update."""
    before = [buffer.clone() for buffer in part.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(part.buffers(), before, strict=True):
                buffer.copy_(old)


@contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Cached weights would be those of the capture for ever."""
    enabled = torch.is_autocast_cache_enabled()
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
