"""Get the current autocast dtype in every release of torch."""

from __future__ import annotations

import torch


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Return the autocast dtype of a device type; None if autocast is off."""
    if hasattr(torch, 'get_autocast_dtype'):
        is_on = torch.is_autocast_enabled(device_type)
        return torch.get_autocast_dtype(device_type) if is_on else None
    if device_type == 'cpu':  # torch < 2.4
        is_on = torch.is_autocast_cpu_enabled()
        return torch.get_autocast_cpu_dtype() if is_on else None
    is_on = torch.is_autocast_enabled()
    return torch.get_autocast_gpu_dtype() if is_on else None
