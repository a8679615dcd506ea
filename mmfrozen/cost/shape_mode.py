"""A dispatch mode that runs a training step on shapes only; needs torch only.

A :class:`ShapeTensor` has a shape, strides, a dtype and a storage of some
size, but no data. Inside :class:`ShapeMode` operators on such tensors return
such tensors; operators on ordinary tensors run normally. So the network takes
no time and no memory, while anchors, assigners and samplers compute with real
boxes. If a program needs values that do not exist (``item``, ``nonzero``, a
mask as an index, ``numpy``), it gets synthetic ones, always the same for the
same tensor.

torch infers the output shapes once for each operator and argument shapes,
after which they are cached: a kernel on the meta device takes 0.2 ms,
FakeTensorMode, which models device-dependent behaviour, 1 ms, and a cache
lookup 0.03 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from .composite import run_in_parts
from .meta_kernels import KERNELS
from .shape_recipes import describe, follow_recipe, is_dense, make_recipe
from .shape_tensor import CPU, ShapeTensor, to_meta
from .shape_tensor import drop_data as drop_data
from .shape_tensor import empty as empty

DEVICE = torch.ops.prim.device.default
CONVOLUTION = torch.ops.aten.convolution.default
ZEROS = torch.ops.aten.zeros.default
META = torch.device('meta')
#: Errors of FakeTensorMode if output shapes depend on values.
NEEDS_NUMBERS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
#: In-place operators that change metadata, not only values.
RESHAPING = frozenset(
    (
        'as_strided_',
        'detach_',
        'resize_',
        'resize_as_',
        'set_',
        'squeeze_',
        'swapaxes_',
        'swapdims_',
        't_',
        'transpose_',
        'unsqueeze_',
    )
)


class ShapeMode(TorchDispatchMode):
    """Dispatch mode that runs operators on tensors without data by shape
    inference.

    Attributes:
        recorders: Functions called with each operator call: the operator, its
            arguments and its result.
    """

    current: ShapeMode | None = None

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Any, Any] = {}
        self._known_without_constants: dict[Any, Any] = {}
        self._keeps_constants = True
        self._synthetic = WeakTensorKeyDictionary()
        self._random = torch.Generator()
        self.recorders: list[Callable[[Any, Any, Any], None]] = []

    @cached_property
    def _fake(self) -> FakeTensorMode:
        """Return the FakeTensorMode; created on demand, as it imports torch's
        compiler, which takes 0.5 s."""
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        fake.cache_enabled = False  # this class has its own cache
        return fake

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled; called often

    def __enter__(self) -> ShapeMode:
        ShapeMode.current = ShapeTensor.mode = self
        self._random.manual_seed(0)  # same values in each step
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        ShapeMode.current = ShapeTensor.mode = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is DEVICE:  # by far the most frequent operator
            return CPU
        kwargs = kwargs or {}
        out = run_in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        out = self.run(func, args, kwargs)
        for record in self.recorders:
            record(func, args, out)
        return out

    def run(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run one operator."""
        key, tensors = describe(func, args, kwargs)
        for tensor in tensors:
            if type(tensor) is ShapeTensor:
                break
        else:
            if func is ZEROS and args[0] and not self._keeps_constants:
                dtype = kwargs.get('dtype') or torch.get_default_dtype()
                return empty(*args[0], dtype=dtype)
            return func(*args, **kwargs)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._choose(func, args, kwargs)
        return known(func, args, kwargs, tensors)

    @contextmanager
    def without_constants(self) -> Iterator[None]:
        """Also drop the data of tensors filled with a constant: gradients,
        optimizer state."""
        before = self._known, self._keeps_constants
        self._known = self._known_without_constants
        self._keeps_constants = False
        try:
            yield
        finally:
            self._known, self._keeps_constants = before

    def synthetic_values(self, tensor: Tensor) -> Tensor:
        """Return synthetic values: True, 0, or uniform between 0 and 1."""
        if type(tensor) is not ShapeTensor:
            return tensor
        if tensor not in self._synthetic:
            shape = tensor.shape
            if tensor.dtype == torch.bool:
                made = torch.ones(shape, dtype=torch.bool)
            elif tensor.is_floating_point():
                made = torch.rand(shape, generator=self._random)
                made = made.to(tensor.dtype)
            else:
                made = torch.zeros(shape, dtype=tensor.dtype)
            self._synthetic[tensor] = made
        return self._synthetic[tensor]

    def _choose(self, func: Any, args: Any, kwargs: Any) -> Callable[..., Any]:
        """Return how to run calls of an operator with these shapes."""
        schema = func._schema
        name = schema.name.partition('::')[2]
        if (
            self._keeps_constants
            and name in CONSTANT
            and self._is_small(name, args)
        ):
            return self._make_constant
        writes = [
            i
            for i, a in enumerate(schema.arguments)
            if a.alias_info is not None and a.alias_info.is_write
        ]
        if writes == [0] and name.endswith('_') and name not in RESHAPING:
            return _return_first if schema.returns else _return_nothing
        if name in LIKE_FIRST:
            return _make_like_first
        if name == 'nms':
            return _keep_all
        if name in MASKED and any(_is_mask(i) for i in args[1]):
            return self._index
        return self._infer_shapes(func, args, kwargs)

    def _infer_shapes(
        self, func: Any, args: Any, kwargs: Any
    ) -> Callable[..., Any]:
        """Let torch infer the shapes of the results."""
        try:
            out, sources = self._run_on_meta(func, args, kwargs)
        except NEEDS_NUMBERS:
            return self._run_on_synthetic
        if not is_dense(out):
            return self._run_on_synthetic
        recipe = make_recipe(out, sources)

        def follow(func: Any, args: Any, kwargs: Any, tensors: Any) -> Any:
            return follow_recipe(recipe, tensors)

        return follow

    def _run_on_meta(
        self, func: Any, args: Any, kwargs: Any
    ) -> tuple[Any, list[Tensor]]:
        """Run an operator on torch's own tensors without data.

        Returns:
            Its result, and the tensors passed to it, in the order of
            :func:`describe`.
        """
        if not _depends_on_device(func, args):
            kernel = KERNELS.get(func, func)
            try:
                return _call_with(_on_meta, kernel, args, kwargs)
            except Exception:  # noqa: S110  # not supported on meta
                pass
        with self._fake:
            return _call_with(self._to_fake, func, args, kwargs)

    def _is_small(self, name: str, args: Any) -> bool:
        shape = args[1] if name.startswith('new_') else args[0].shape
        return len(shape) <= 2 and prod(shape) <= MAX_CONSTANT

    def _make_constant(
        self, func: Any, args: Any, kwargs: Any, tensors: Any
    ) -> Tensor:
        """Return a constant with data: labels, weights and masks start as
        constants that the program then fills with real values."""
        like = torch.empty((), dtype=args[0].dtype).expand(args[0].shape)
        made: Tensor = func(like, *args[1:], **kwargs)
        return made.contiguous()

    def _to_fake(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return FakeTensor(self._fake, to_meta(x), CPU)
        return x

    def _run_on_synthetic(
        self, func: Any, args: Any, kwargs: Any, tensors: Any
    ) -> Any:
        """Run an operator whose result depends on values on synthetic ones."""
        args, kwargs = tree_map(
            lambda x: self.synthetic_values(x) if isinstance(x, Tensor) else x,
            (args, kwargs),
        )
        return func(*args, **kwargs)

    def _index(self, func: Any, args: Any, kwargs: Any, tensors: Any) -> Any:
        """Index with the positions where masks are true."""
        indices: list[Tensor | None] = []
        for index in args[1]:
            if _is_mask(index):
                indices += self.synthetic_values(index).nonzero().unbind(1)
            else:
                indices.append(index)
        return self.run(func, (args[0], indices, *args[2:]), kwargs)


#: Operators that return a new constant tensor.
CONSTANT = frozenset(
    (
        'full_like',
        'new_full',
        'new_ones',
        'new_zeros',
        'ones_like',
        'zeros_like',
    )
)
#: Maximum elements of a constant that keeps its data.
MAX_CONSTANT = 1 << 22
#: `_foreach_*` operators: results have the shapes of the first argument.
LIKE_FIRST = frozenset(
    ('_foreach_add', '_foreach_div', '_foreach_mul', '_foreach_sub')
)
MASKED = ('index', 'index_put', 'index_put_', '_unsafe_index')


def _depends_on_device(func: Any, args: Any) -> bool:
    """Return whether results have other strides on a CPU than on the meta
    device."""
    return func is CONVOLUTION and not args[0].is_contiguous()


def _on_meta(x: Any) -> Any:
    if isinstance(x, Tensor):
        return to_meta(x)
    return META if isinstance(x, torch.device) else x


def _call_with(
    replace_argument: Callable[[Any], Any], func: Any, args: Any, kwargs: Any
) -> tuple[Any, list[Tensor]]:
    """Run an operator with each argument replaced; return its result and the
    replaced tensors."""
    known: dict[int, Any] = {}

    def change(x: Any) -> Any:
        if id(x) not in known:
            known[id(x)] = replace_argument(x)
        return known[id(x)]

    call = tree_map(change, (args, kwargs))
    out = func(*call[0], **call[1])
    return out, [known[id(t)] for t in describe(func, args, kwargs)[1]]


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (
        torch.bool,
        torch.uint8,
    )


def _make_like_first(func: Any, args: Any, kwargs: Any, tensors: Any) -> Any:
    return [torch.empty_like(t) for t in args[0]]


def _keep_all(func: Any, args: Any, kwargs: Any, tensors: Any) -> Tensor:
    return torch.arange(len(args[0]))


def _return_first(func: Any, args: Any, kwargs: Any, tensors: Any) -> Any:
    return args[0]


def _return_nothing(func: Any, args: Any, kwargs: Any, tensors: Any) -> None:
    return None
