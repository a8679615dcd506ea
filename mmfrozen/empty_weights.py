"""Build torch modules whose parameters take no memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from torch import Tensor, nn

#: Tensor methods that custom initializers call, such as timm's truncated
#: normal.
IN_PLACE = ('add_', 'clamp_', 'erfinv_', 'mul_', 'normal_', 'uniform_')


@contextlib.contextmanager
def empty_weights() -> Iterator[None]:
    """Create parameters on torch's meta device and skip initialization.

    A module that is imported inside the block may keep the patched functions
    of ``torch.nn.init``; they still fill tensors on other devices.

    ``torch.device('meta')`` would also drop the data of small tensors that
    constructors read, such as the drop rates of MMDetection's Swin.
    """
    register = nn.Module.register_parameter

    def register_on_meta(
        module: nn.Module, name: str, param: nn.Parameter | None
    ) -> None:
        # a parameter that is on meta already may be shared: keep the object
        if param is not None and not param.is_meta:
            param = nn.Parameter(
                param.detach().to('meta'), param.requires_grad
            )
        register(module, name, param)

    with contextlib.ExitStack() as stack:
        patch = mock.patch.object
        stack.enter_context(
            patch(nn.Module, 'register_parameter', register_on_meta)
        )
        inits = [n for n in vars(nn.init) if n.strip('_') + '_' == n]
        for place, names in ((nn.init, inits), (Tensor, IN_PLACE)):
            for name in names:
                fill = _fill_others(getattr(place, name))
                stack.enter_context(patch(place, name, fill))
        yield


def _fill_others(fill: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(fill)
    def fill_others(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if tensor.is_meta else fill(tensor, *args, **kwargs)

    return fill_others
