"""Decomposition of torch's composite operators under a dispatch mode."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def run_in_parts(
    mode: TorchDispatchMode,
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a composite operator so that a mode sees its parts.

    Under ``inference_mode`` linear, matmul and convolutions reach a mode
    undecomposed, since autograd does not decompose them.

    Returns:
        The result; NotImplemented for any other operator, and outside of
        ``inference_mode``.
    """
    if not torch.is_inference_mode_enabled():
        return NotImplemented
    # a subclass's __enter__ would start its count again
    TorchDispatchMode.__enter__(mode)
    try:
        return func.decompose(*args, **kwargs)
    finally:
        TorchDispatchMode.__exit__(mode, None, None, None)
