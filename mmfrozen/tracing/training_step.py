"""Tracing of the cost of one training step without weights, data or GPU.

MMDetection's own ``loss()``, its backward pass and the optimizer's update run
on tensors without data (:mod:`mmfrozen.cost.shape_mode`) and synthetic objects
(:mod:`.fake_targets`). The operators that they execute are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torchvision  # noqa: F401  # detectors import it during a step
from mmengine.config import Config
from mmengine.logging import MessageHub
from torch import Tensor, nn

from ..cost import FlopCounter, Flops
from ..cost.shape_mode import ShapeMode, drop_data, empty
from ..cost.storage_tracker import SavedBytes, StorageTracker
from ..empty_weights import empty_weights
from ..errors import one_line, remedy_for
from ..fit import check_fit
from ..freeze_config import meta
from ..freezing.components import OTHER, component_namer
from ..gc_paused import gc_paused
from .cuda_autocast import CudaAutocast
from .fake_predictions import (
    SampleLog,
    focal_losses_on_shapes,
    patch_predictions,
    use_gpu_attention,
)
from .fake_targets import make_samples
from .pair import Change, apply_change
from .progress import Progress
from .step_optimizer import build_optimizer, fill_state
from .traced_step import (
    BACKWARD,
    FORWARD,
    PARTS,
    STATE,
    WEIGHTS,
    ComponentCost,
    TracedStep,
)
from .workload import Workload, read_classes, set_rois

#: Maximum number of class names in a prompt: so many fit into BERT's 256
#: tokens.
MAX_NAMES = 80
AUTOCAST = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class CannotTraceError(ValueError):
    """Raised if a training step does not run without data.

    Attributes:
        has_part: Whether a part of its forward pass ran and can be counted.
    """

    has_part = False


def trace_step(
    cfg: Config,
    work: Workload,
    *,
    change: Change = 'none',
    mode: ShapeMode | None = None,
    partial: bool = False,
) -> TracedStep:
    """Run a training step of a config without data.

    Args:
        cfg: Config of the experiment; not changed.
        work: Workload of the step.
        change: Change applied to the model first.
        mode: The mode of earlier traces, whose cache saves time.
        partial: If the forward pass fails, count the operators before the
            failure and a backward pass from their outputs.

    Raises:
        CannotTraceError: If the step fails; the message names the part.
    """
    mode = mode or ShapeMode()
    try:
        return _trace(cfg, work, change, mode, None)
    except CannotTraceError as error:
        if not (partial and error.has_part):
            raise
    # traced again, as a partial trace holds outputs that a full one frees
    return _trace(cfg, work, change, mode, Progress())


def _trace(
    cfg: Config,
    work: Workload,
    change: Change,
    mode: ShapeMode,
    progress: Progress | None,
) -> TracedStep:
    settings, left_out = cfg.model, []
    if 'detector' in settings:  # trackers, semi-supervised training
        settings, left_out = settings.detector, ['all but the detector']
    settings = settings.deepcopy()
    set_rois(settings, work)
    with gc_paused(), _one_thread():
        remedy = text_remedy if 'language_model' in settings else remedy_for
        with _name_failed_part('model', 'build', remedy):
            model = meta.build(settings)
            model.train()
        check_fit(model)
        apply_change(model, change)
        with empty_weights():  # timm's models are built again here
            name = component_namer(model)
        for module in (model, *_hidden_modules(model)):
            drop_data(module)
        torch.manual_seed(0)
        hub = MessageHub.get_current_instance()
        hub.update_info('epoch', 1000)  # after any warm-up of detectors
        hub.update_info('iter', 100_000)
        with mode:
            trace = _Trace(model, name, cfg, work, mode, progress)
            return trace.run(left_out)


class _Trace:
    """State of a training step during its trace."""

    def __init__(
        self,
        model: nn.Module,
        name: Callable[[str], str],
        cfg: Config,
        work: Workload,
        mode: ShapeMode,
        progress: Progress | None,
    ) -> None:
        self.model, self.name, self.cfg, self.work = model, name, cfg, work
        self.mode, self.progress = mode, progress
        self.log: SampleLog = patch_predictions(model, work.shape)
        with _name_failed_part('optim_wrapper', 'build'):
            self.optimizer = build_optimizer(model, cfg.get('optim_wrapper'))
        with (
            _name_failed_part('optim_wrapper', 'update'),
            mode.without_constants(),
        ):
            self.state = fill_state(self.optimizer)
        self.phases: dict[str, int] = {}

    def run(self, left_out: list[str]) -> TracedStep:
        """Run the step and return its cost."""
        images = empty(self.work.batch_size, 3, *self.work.shape)
        present = [*self.model.parameters(), *self.model.buffers()]
        tracker = StorageTracker()
        counter = FlopCounter(self.model)
        tracker.label = WEIGHTS
        tracker.follow(present)
        tracker.label = STATE
        tracker.follow(self.state)
        tracker.label = FORWARD
        tracker.follow([images])
        flops: list[int] = []
        saved = SavedBytes(
            [*present, images], lambda: self.name(counter.owner()[0])
        )

        def record(func: Any, args: Any, out: Any) -> None:
            counter.record(func, args, out)
            tracker.record(out)
            if len(tracker.timeline) > len(flops):
                flops.append(counter.so_far)

        self.mode.recorders = [record]
        watch = nullcontext()
        if self.progress is not None:
            self.mode.recorders.append(self.progress.record)
            watch = self.progress.watch()
        try:
            with (
                counter.watch(),
                use_gpu_attention(),
                focal_losses_on_shapes(),
                watch,
            ):
                self._step(images, saved, tracker)
        except CannotTraceError as error:
            if counter.so_far and not self.phases and self.progress is None:
                error.has_part = True
                error.args = (
                    f'{str(error).rstrip(".")}, or count the part before with '
                    '--partial.',
                )
            raise
        finally:
            self.mode.recorders = []
        timeline = list(zip(flops, tracker.timeline, strict=True))
        return self._sum_up(tracker, counter, saved, timeline, left_out)

    def _step(
        self, images: Tensor, saved: SavedBytes, tracker: StorageTracker
    ) -> None:
        dtype = AUTOCAST.get(self.work.dtype)
        autocast = torch.autocast('cpu', dtype) if dtype else nullcontext()
        as_on_gpus = CudaAutocast() if dtype else nullcontext()
        forward = _name_failed_part(self.model, 'forward pass')
        with forward, autocast, as_on_gpus, saved:
            loss = self._loss(images)
        self.phases['forward'] = len(tracker.timeline)
        tracker.label = BACKWARD
        with (
            _name_failed_part(self.model, 'backward pass'),
            self.mode.without_constants(),
        ):
            if loss is not None:
                loss.backward()
        self.phases['backward'] = len(tracker.timeline)
        if self.optimizer is not None:
            with (
                _name_failed_part('optim_wrapper', 'update'),
                self.mode.without_constants(),
            ):
                self.optimizer.step()
        self.phases['optimizer'] = len(tracker.timeline)

    def _loss(self, images: Tensor) -> Tensor | None:
        try:
            return self._whole_loss(images)
        except Exception as error:  # MMDetection may raise anything
            if self.progress is None:
                raise
            part = _failed_module(error, self.model)
            self.progress.failure = f'{one_line(error)} in {part}'
            return self.progress.loss()

    def _whole_loss(self, images: Tensor) -> Tensor:
        samples = make_samples(
            self.work.batch_size,
            self.work.shape,
            objects=self.work.objects,
            num_classes=self.num_classes(),
            masks=self.work.masks,
            text=self.text(),
        )
        losses = self.model(images, samples, mode='loss')
        loss, _ = self.model.parse_losses(losses)
        return loss

    def text(self) -> tuple[str, ...]:
        """Return class names, for detectors that read text."""
        if hasattr(self.model, 'language_model'):
            return read_classes(self.cfg)[:MAX_NAMES]
        return ()

    def num_classes(self) -> int:
        """Return the number of classes that every head supports."""
        known = [
            getattr(module, name)
            for module in self.model.modules()
            for name in ('num_classes', 'num_things_classes')
            if isinstance(getattr(module, name, None), int)
        ]
        return max(1, min(known, default=1))

    def _sum_up(
        self,
        tracker: StorageTracker,
        counter: FlopCounter,
        saved: SavedBytes,
        timeline: list[tuple[int, int]],
        left_out: list[str],
    ) -> TracedStep:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        failure = ''
        if self.progress is not None and self.progress.failure is not None:
            failure = self.progress.failure
            left_out = left_out + self.progress.left_out(self.model, self.name)
        peak = tracker.timeline.index(max(tracker.timeline))
        return TracedStep(
            components=self._components(counter, saved),
            parameter_bytes=_bytes(
                [*self.model.parameters(), *self.model.buffers()]
            ),
            gradient_bytes=_bytes(trained),
            optimizer_bytes=_bytes(self.state),
            peak_bytes=tracker.peak_bytes,
            peak_phase=next(n for n, i in self.phases.items() if peak < i),
            peak_parts={
                name: tracker.peak_parts.get(name, 0) for name in PARTS
            },
            timeline=timeline,
            phases=self.phases,
            uncounted=dict(counter.uncounted.most_common()),
            uncounted_elements=sum(counter.uncounted_elements.values()),
            rois=_mean_rois(self.log),
            positives={
                name: sum(counts) / len(counts)
                for name, counts in self.log.positives.items()
                if counts
            },
            optimizer=(
                type(self.optimizer).__name__ if self.optimizer else None
            ),
            left_out=left_out,
            failure=failure,
        )

    def _components(
        self, counter: FlopCounter, saved: SavedBytes
    ) -> list[ComponentCost]:
        flops = counter.flops(self.name)
        counts: dict[str, list[int]] = {}
        for name, parameter in self.model.named_parameters():
            count = counts.setdefault(self.name(name), [0, 0])
            count[0] += parameter.numel()
            count[1] += parameter.numel() * parameter.requires_grad
        for name in flops:
            counts.setdefault(name, [0, 0])
        counts[OTHER] = counts.pop(OTHER, [0, 0])  # moved to the end
        return [
            ComponentCost(
                name,
                flops.get(name, Flops()),
                *count,
                saved.by_owner.get(name, 0),
            )
            for name, count in counts.items()
            if count[0] or flops.get(name, Flops()).total
        ]


def _hidden_modules(model: nn.Module) -> list[nn.Module]:
    """Return modules kept as plain attributes, such as a distiller's
    teacher."""
    return [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, nn.Module)
    ]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, as tensors with data are small and another process may
    trace the other step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _mean_rois(log: SampleLog) -> dict[str, tuple[float, float]]:
    return {
        name: (
            sum(map(sum, counts)) / len(counts),
            sum(positive for positive, _ in counts) / len(counts),
        )
        for name, counts in log.rois.items()
        if counts
    }


@contextmanager
def _name_failed_part(
    part: Any,
    phase: str,
    remedy_of_build: Callable[[Exception], str] = remedy_for,
) -> Iterator[None]:
    """Re-raise errors as CannotTraceError that names the failed part."""
    try:
        yield
    except Exception as error:  # MMDetection may raise anything
        if isinstance(part, nn.Module):
            part = _failed_module(error, part)
        remedy = 'Name another config or --shape'
        if phase == 'build':
            remedy = remedy_of_build(error).rstrip('.')
        raise CannotTraceError(
            f'A training step must run on shapes alone, got '
            f'{one_line(error)} in the {phase} of {part}. {remedy}.'
        ) from error


def text_remedy(error: Exception) -> str:
    """Return advice for a detector with a text encoder that cannot be built,
    which is mostly due to missing files of BERT."""
    if any(word in str(error) for word in ('transformers', 'huggingface')):
        return (
            'Install transformers and download what '
            'model.language_model.name names, or set it to a folder with '
            'the files'
        )
    return remedy_for(error)


def _failed_module(error: Exception, model: nn.Module) -> str:
    names = {id(m): n for n, m in model.named_modules()}
    found = type(model).__name__
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get('self')
        found = names.get(id(owner)) or found
        trace = trace.tb_next
    return found
