"""A hook that replays the static part of a training step as a CUDA graph."""

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

#: Maximum difference from the eager outputs, relative to their largest
#: absolute value. The kernels are the same, but cuDNN may choose other
#: algorithms in a capture.
TOLERANCE = 1e-2


@HOOKS.register_module()
class CUDAGraphHook(Hook):
    """Hook that runs backbone, neck and RPN as one CUDA graph.

    MMEngine's ``compile`` takes minutes and recompiles for each number of
    objects. With large-scale jitter all batches have one shape, and the part
    that does not depend on the objects can be captured at the first batch. The
    step computes the same, without the time that Python takes to launch some
    hundred kernels; their activations stay allocated. The hook needs one GPU,
    a ``BatchedTwoStageDetector`` and no gradient accumulation; otherwise it
    logs a warning and does nothing.

    Example config::

        custom_hooks = [
            dict(type='NumClassCheckHook'),
            dict(type='mmfrozen.CUDAGraphHook')]
    """

    def before_train(self, runner: Runner) -> None:
        """Replace the static part of the model."""
        model = find_model(runner)
        reason = _unsupported_reason(runner, model)
        if reason:
            runner.logger.warning(
                f'CUDAGraphHook must have {reason}. The step runs without a '
                'CUDA graph.'
            )
            return
        model.run_static = GraphedStaticPart(model)

    def after_train(self, runner: Runner) -> None:
        """Restore the model."""
        vars(find_model(runner)).pop('run_static', None)


def _unsupported_reason(runner: Runner, model: Any) -> str | None:
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
    """The backbone, neck and region proposal network as one module.

    Args:
        detector: A ``BatchedTwoStageDetector``.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        parts = (detector.backbone, detector.neck, detector.rpn_head)
        self.parts = nn.ModuleList(parts)
        self.run = detector.run_static

    def forward(self, images: Tensor) -> Any:
        """Run ``BatchedTwoStageDetector.run_static``."""
        return self.run(images)


def capture(part: StaticPart, images: Tensor) -> Callable[[Tensor], Any]:
    """Capture a forward and a backward pass as a CUDA graph.

    Args:
        part: The static part, on a GPU; its ``forward`` is replaced.
        images: (N, 3, H, W), of the size to capture.
    """
    options: dict[str, Any] = dict(allow_unused_input=True)
    # the thread that pins batches may then call CUDA during the capture
    mode = 'capture_error_mode'
    if mode in inspect.signature(torch.cuda.make_graphed_callables).parameters:
        options[mode] = 'thread_local'
    return torch.cuda.make_graphed_callables(part, (images,), **options)


class GraphedStaticPart:
    """A replacement for ``run_static`` of a detector.

    The pass is captured at the first batch, and its result is compared with
    the eager pass. Batches of another size or dtype run eagerly. If the
    capture fails or differs, this is logged and all batches run eagerly.

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
        """Replay the graph, or run eagerly."""
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
        # the random state is restored, so that the capture does not change the
        # random numbers of the run
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
            except Exception as error:  # anything may fail to be captured
                reason = str(error).partition('\n')[0]
                self._say(
                    f'The step runs without a CUDA graph: {reason}', level=30
                )
                return None
        errors = [
            (a - b).abs().max() / b.abs().max().clamp(min=1e-12)
            for a, b in zip(found, wanted, strict=True)
        ]
        error = float(torch.stack(errors).max())  # NaN if any error is NaN
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
    """Restore the buffers (norm statistics) that trial passes update."""
    before = [buffer.clone() for buffer in part.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(part.buffers(), before, strict=True):
                buffer.copy_(old)


@contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Disable the autocast cache.

    Otherwise the graph would always use the cast weights of the capture.
    """
    enabled = torch.is_autocast_cache_enabled()
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
