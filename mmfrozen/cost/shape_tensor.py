"""A tensor subclass with metadata and no data."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

CPU = torch.device('cpu')


class ShapeTensor(Tensor):
    """A tensor without data that reports the CPU as its device."""

    meta: Tensor
    #: The active ShapeMode, which runs the operators.
    mode: ClassVar[Any] = None

    @staticmethod
    def __new__(cls, meta: Tensor) -> ShapeTensor:
        self: ShapeTensor = Tensor._make_subclass(
            cls,
            meta,
            False,
            dispatch_device=True,
            device_for_backend_keys=CPU,
        )
        self.meta = meta
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if ShapeTensor.mode is None:
            raise RuntimeError(f'{func} on shapes outside of a ShapeMode')
        return ShapeTensor.mode.run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CPU

    def synthetic_values(self) -> Tensor:
        """Return synthetic values of this shape."""
        assert ShapeTensor.mode is not None
        made: Tensor = ShapeTensor.mode.synthetic_values(self)
        return made

    def numpy(self, **options: Any) -> Any:
        return self.synthetic_values().numpy(**options)

    def tolist(self) -> Any:
        return self.synthetic_values().tolist()

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self.synthetic_values().__array__(*args, **options)

    def __deepcopy__(self, memo: Any) -> ShapeTensor:
        copy = ShapeTensor(torch.empty_like(self.meta))
        if isinstance(self, nn.Parameter):
            copy._is_param = True  # type: ignore[attr-defined]
        return copy.requires_grad_(self.requires_grad)

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f'ShapeTensor({tuple(self.shape)}, {self.dtype})'


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> ShapeTensor:
    """Return a tensor without data."""
    return ShapeTensor(torch.empty(shape, dtype=dtype, device='meta'))


def to_meta(tensor: Tensor) -> Tensor:
    """Return a meta tensor of the same shape, strides and dtype."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device='meta'
    )


def drop_data(module: nn.Module) -> None:
    """Replace parameters and floating-point buffers of a module by ones
    without data.

    Shared tensors stay shared. Integer buffers, which are small, keep their
    data.
    """
    seen: dict[int, ShapeTensor] = {}

    def drop(tensor: Tensor) -> ShapeTensor:
        if isinstance(tensor, ShapeTensor):
            return tensor
        if id(tensor) not in seen:
            new = ShapeTensor(torch.empty_like(tensor, device='meta'))
            if isinstance(tensor, nn.Parameter):
                new._is_param = True  # type: ignore[attr-defined]
            seen[id(tensor)] = new.requires_grad_(tensor.requires_grad)
        return seen[id(tensor)]

    for child in module.modules():
        for name, parameter in child._parameters.items():
            if parameter is not None:
                child._parameters[name] = drop(parameter)  # type: ignore[assignment]
        for name, buffer in child._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                child._buffers[name] = drop(buffer)
