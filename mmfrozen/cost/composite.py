"""Composite operators of torch, run in their parts."""

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
    """Run a composite operator so that a mode sees what it is made of.

    Under ``inference_mode`` linear, matmul and convolutions reach a mode
    whole, since nothing of autograd has taken them apart.

    Returns:
        The result; NotImplemented for any other operator, and outside of
        ``inference_mode``.
    """
    if not torch.is_inference_mode_enabled():
        return NotImplemented
    # a mode that overrides these counts what it enters
    TorchDispatchMode.__enter__(mode)
    try:
        return func.decompose(*args, **kwargs)
    finally:
        TorchDispatchMode.__exit__(mode, None, None, None)
