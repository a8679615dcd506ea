"""The engine that makes the forward pass of a frozen backbone faster."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..errors import one_line
from .autocast import autocast_dtype
from .measure import Variant, pick_fastest
from .variants import DTYPES, NAMES, GraphRun, Levels, Recording
from .weights import WeightsWatch

#: Seconds of compilation per operator, and saved fraction of the run time. On
#: an H200 450 operators compiled in 34 s and then took 0.6 of their time.
COMPILE_SECONDS, COMPILE_SAVES = 0.08, 0.4
#: Batches after which the most frequent size may be compiled.
COMPILE_AFTER = 10
#: Images whose sides are multiples of this need no padding for their size.
STRIDE = 32
#: Maximum number of rebuilds after changes of the weights.
MAX_REBUILDS = 3
_is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)


@dataclass
class _Choice:
    """The variant chosen for a device and an autocast dtype.

    It is chosen at the first image size.

    Attributes:
        levels: Structure of the eager forward's outputs.
        run: The chosen graph; None for the eager forward.
        dtype: Dtype of the chosen graph.
        graph_key: Key of the recorded graph, see ``graph.graph_key``.
        size: Shape of the recorded images.
        seconds: Seconds per call.
        serves_all: Whether ``run`` works for other sizes; None if unknown.
    """

    levels: Levels
    run: GraphRun | None = None
    dtype: torch.dtype = torch.float32
    graph_key: list[Hashable] = field(default_factory=list)
    size: tuple[int, ...] = ()
    seconds: float = 0.0
    serves_all: bool | None = None


class FrozenEngine:
    """A replacement for ``forward`` of a frozen backbone.

    The constructor installs it. At the first batch the forward pass is
    recorded, norms and everything else that depends on weights only are
    precomputed, and several variants of the rest are compared with the eager
    pass and timed. The fastest is kept, or the eager pass if none is faster or
    none agrees. The module, its parameters and its state dict do not change;
    copies and pickles of it use their own forward.

    Args:
        backbone: A fully frozen backbone.
        is_on: Function that returns whether a call belongs to training; other
            calls run eagerly.
        dtype: ``'auto'`` for the autocast dtype; or ``'fp32'``, ``'bf16'``,
            ``'fp16'``.
        compiled: ``'auto'``: try ``torch.compile`` on a GPU, for a size that
            most batches have, if it saves time in the remaining steps; True:
            at the first batch; False: never.
        tolerance: Largest relative error of a level in the 2-norm; None for
            those of ``variants.TOLERANCES``.
        max_sizes: Number of image sizes for which an engine is built, if one
            cannot serve all.
        steps_left: Function that returns the number of remaining steps.
        log: Function that logs a line.
    """

    def __init__(
        self,
        backbone: nn.Module,
        is_on: Callable[[], bool],
        *,
        dtype: str = 'auto',
        compiled: bool | str = 'auto',
        tolerance: float | None = None,
        max_sizes: int = 4,
        steps_left: Callable[[], float] = lambda: math.inf,
        log: Callable[[str], None] = print,
    ) -> None:
        self._backbone, self._is_on = backbone, is_on
        self._dtype, self._compiled = DTYPES.get(dtype), compiled
        self._tolerance, self._max_sizes = tolerance, max_sizes
        self._steps_left, self._log = steps_left, log
        self._eager = backbone.forward
        self._rebuilds = 0
        self._said: set[str] = set()
        self._begin()
        backbone.forward = self

    def remove(self) -> None:
        """Restore the backbone's own forward."""
        vars(self._backbone).pop('forward', None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the backbone's own forward, so that copies run eagerly."""
        return _own_forward, (self._backbone,)

    def _begin(self) -> None:
        self._watch = WeightsWatch(self._backbone)
        #: By shape, device and autocast dtype; None for the eager forward.
        self._runs: dict[Hashable, GraphRun | None] = {}
        self._choices: dict[Hashable, _Choice | None] = {}
        self._calls: Counter[Hashable] = Counter()
        self._num_engines = 0
        self._may_compile = self._compiled == 'auto'

    def reset_if_changed(self, *, thoroughly: bool = False) -> bool:
        """Reset the engine if the weights have changed.

        Args:
            thoroughly: Whether to compare values too, which synchronises with
                the GPU.

        Returns:
            Whether they have changed.
        """
        if not self._watch.is_stale() and not (
            thoroughly and self._watch.differs()
        ):
            return False
        self._rebuilds += 1
        self._begin()
        if self._rebuilds <= MAX_REBUILDS:
            self._log(
                'The weights of the backbone have changed: its engine is '
                'rebuilt.'
            )
        elif self._rebuilds == MAX_REBUILDS + 1:
            self._log(
                f'The weights of the backbone have changed {self._rebuilds} '
                'times: it runs without an engine from now on.'
            )
        return True

    def __call__(self, images: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Compute the features of a batch."""
        if args or kwargs or not self._serves(images):
            return self._eager(images, *args, **kwargs)
        self.reset_if_changed()
        if self._rebuilds > MAX_REBUILDS:
            return self._eager(images)
        autocast = autocast_dtype(images.device.type)
        kind = (images.device, autocast)
        key = (tuple(images.shape), *kind)
        if key not in self._runs:
            if images.is_cuda and torch.cuda.is_current_stream_capturing():
                return self._eager(images)
            with torch.no_grad():
                self._runs[key] = self._prepare(images, kind)
        elif self._may_compile and images.is_cuda:
            try:
                self._consider_compiling(images, kind, key)
            except Exception as error:  # recording may raise anything
                self._log(
                    f'The backbone is not compiled at {_size(images)}: '
                    f'{one_line(error)}'
                )
        run = self._runs[key]
        if run is None:
            return self._eager(images)
        return run.levels.wrap(run(images))

    def _serves(self, images: Any) -> bool:
        """Return whether a call can use the engine.

        It can in training, unless operators are counted, traced or exported.
        """
        return (
            type(images) is Tensor
            and images.dim() == 4
            and images.dtype == torch.float32
            and images.device.type != 'meta'
            and not images.requires_grad
            and self._is_on()
            and not torch._C._len_torch_dispatch_stack()
            and not torch._C._get_tracing_state()
            and not _is_compiling()
        )

    def _prepare(self, images: Tensor, kind: Hashable) -> GraphRun | None:
        choice = self._choices.get(kind)
        is_first = kind not in self._choices
        try:
            if is_first:
                self._choices[kind] = None  # kept for all sizes if it fails
                choice = self._choices[kind] = self._choose(images)
                return choice.run
            if choice is None or choice.run is None:
                return None
            return self._for_another_size(choice, images)
        except Exception as error:  # recording may raise anything
            self._log(
                f'The backbone runs without an engine at {_size(images)}: '
                f'{one_line(error)}'
            )
            return None

    def _choose(self, images: Tensor) -> _Choice:
        """Compare all variants, except compilation unless it is requested."""
        start = time.perf_counter()
        self._num_engines += 1
        mirrored = images.flip(-1)  # must differ from the recorded images
        outputs = self._eager(mirrored)
        levels = Levels.of(outputs)
        eager = self._eager_variant()
        variants: list[Variant] = []
        recordings = {}
        for dtype in self._dtypes(images):
            try:
                recording = Recording(self._eager, images, levels, dtype)
            except Exception as error:  # e.g. no such dtype on the device
                fault = one_line(error)
                variants.append(Variant(NAMES[dtype], eager.run, fault=fault))
                continue
            recordings[dtype] = recording
            variants += recording.variants(images, self._tolerance)
            if self._compiled is True:
                variants.append(recording.compiled(images, self._tolerance))
        best = pick_fastest(eager, variants, mirrored, tree_leaves(outputs))
        self._report(
            eager, best, variants, images, time.perf_counter() - start
        )
        choice = _Choice(
            levels, dtype=self._dtypes(images)[0], seconds=best.seconds
        )
        if isinstance(best.run, GraphRun):
            choice.run, choice.dtype = best.run, best.run.dtype
            choice.graph_key = recordings[choice.dtype].graph_key
            choice.size = tuple(images.shape)
        return choice

    def _eager_variant(self) -> Variant:
        return Variant('as it is', lambda x: tree_leaves(self._eager(x)))

    def _dtypes(self, images: Tensor) -> list[torch.dtype]:
        """Return the dtypes to try, including fp32 where it may be faster."""
        eager = autocast_dtype(images.device.type) or torch.float32
        wanted = self._dtype or eager
        is_more = images.device.type == 'cpu' or wanted != eager
        return list(
            dict.fromkeys([wanted, torch.float32] if is_more else [wanted])
        )

    def _for_another_size(
        self, choice: _Choice, images: Tensor
    ) -> GraphRun | None:
        sizes = (*choice.size[-2:], *images.shape[-2:])
        is_padded = any(side % STRIDE for side in sizes)
        if choice.serves_all and not is_padded:
            return choice.run
        if self._num_engines >= self._max_sizes:
            self._say_once(
                'The backbone runs without an engine at further sizes than '
                f'the {self._max_sizes} that have an engine of their own.'
            )
            return None
        if choice.serves_all is None and not is_padded:
            recording = Recording(
                self._eager, images, choice.levels, choice.dtype
            )
            choice.serves_all = recording.graph_key == choice.graph_key
            if choice.serves_all:
                self._log(
                    'The engine of the backbone serves batches of all sizes '
                    f'that are multiples of {STRIDE}.'
                )
                return choice.run
        return self._choose(images).run

    def _consider_compiling(
        self, images: Tensor, kind: Hashable, key: Hashable
    ) -> None:
        """Try compilation once most batches have had this size."""
        self._calls[key] += 1
        total = sum(self._calls.values())
        if total < COMPILE_AFTER or 2 * self._calls[key] < total:
            return
        self._may_compile = False
        choice, start = self._choices[kind], time.perf_counter()
        if choice is None or not math.isfinite(choice.seconds):
            return  # no variant could be used
        expected = COMPILE_SECONDS * max(len(choice.graph_key), 100)
        saved = COMPILE_SAVES * choice.seconds * self._steps_left()
        if saved < 2 * expected:
            return
        with torch.no_grad():
            eager = self._eager_variant()
            recording = Recording(
                self._eager, images, choice.levels, choice.dtype
            )
            variants = [recording.compiled(images, self._tolerance)]
            if choice.run is not None:
                variants.append(Variant('not compiled', choice.run, math.inf))
            mirrored = images.flip(-1)
            best = pick_fastest(eager, variants, mirrored, eager.run(mirrored))
        self._report(
            eager, best, variants, images, time.perf_counter() - start
        )
        if best is variants[0] and isinstance(best.run, GraphRun):
            self._runs[key] = best.run

    def _report(
        self,
        eager: Variant,
        best: Variant,
        variants: list[Variant],
        images: Tensor,
        cost: float,
    ) -> None:
        where = f'The backbone at {_size(images)}'
        if best is eager:
            others = '; '.join(
                f'{x.name}: {x.fault or f"{x.seconds * 1e3:.0f} ms"}'
                for x in variants
            )
            its = eager.seconds * 1e3
            time_taken = f', {its:.0f} ms' if math.isfinite(its) else ''
            self._log(
                f'{where} runs without an engine{time_taken} ({others}); '
                f'trying took {cost:.1f} s.'
            )
            return
        faults = ''.join(
            f'; {variant.name}: {variant.fault}'
            for variant in variants
            if variant.fault
        )
        steps = math.ceil(cost / (eager.seconds - best.seconds))
        self._log(
            f'{where} runs {best.name}: {best.seconds * 1e3:.0f} ms in place '
            f'of {eager.seconds * 1e3:.0f} ms, relative error '
            f'{best.error:.1e}; trying took {cost:.1f} s, the first call '
            f'{best.first_seconds:.1f} s of it, paid after {steps} '
            f'steps{faults}.'
        )

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._log(message)


def _own_forward(module: nn.Module) -> MethodType:
    return MethodType(type(module).forward, module)


def _size(images: Tensor) -> str:
    return ' x '.join(map(str, images.shape))
