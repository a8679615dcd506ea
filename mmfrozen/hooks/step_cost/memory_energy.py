"""Meters of the memory and the energy that training uses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import psutil
import torch

from ...run_files import StepMemory


class MemoryMeter:
    """Peak memory over all samples taken.

    Args:
        device: Device of the model.
        read_resident: Function that returns the size of the process's
            resident set in bytes; by default psutil's.
    """

    def __init__(
        self,
        device: torch.device,
        read_resident: Callable[[], int] | None = None,
    ) -> None:
        self._cuda = device if device.type == 'cuda' else None
        process = psutil.Process()
        self._read_resident = read_resident or (
            lambda: process.memory_info().rss
        )
        self._allocated = self._reserved = self._resident = 0

    def reset(self) -> None:
        """Reset CUDA's peak, which a validation may have raised.

        MMDetection's logger does the same whenever it logs.
        """
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._cuda)

    def sample_resident(self) -> None:
        """Sample the resident set size; costs microseconds."""
        self._resident = max(self._resident, self._read_resident())

    def sample_cuda(self) -> None:
        """Sample CUDA's peaks, before MMDetection's logger resets them."""
        if self._cuda:
            stats = torch.cuda.memory_stats(self._cuda)
            self._allocated = max(
                self._allocated, stats['allocated_bytes.all.peak']
            )
            self._reserved = max(
                self._reserved, stats['reserved_bytes.all.peak']
            )

    def read(self) -> StepMemory:
        """Return the peaks so far, in bytes."""
        return StepMemory(
            cuda_allocated_peak_bytes=self._allocated or None,
            cuda_reserved_peak_bytes=self._reserved or None,
            resident_peak_bytes=self._resident or None,
            process_peak_bytes=process_peak_bytes(),
        )


def process_peak_bytes() -> int | None:
    """Return the peak resident set size of the process; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024  # KiB on Linux


class EnergyMeter:
    """Energy of a GPU during training intervals, from NVIDIA's driver.

    Args:
        device: Device of the model.
        nvml: The module ``pynvml``; imported if None.
    """

    def __init__(self, device: torch.device, nvml: Any = None) -> None:
        self.note: str | None = None
        self._begin: tuple[float, int] | None = None
        self._joules, self._steps = 0.0, 0
        try:
            self._read = _counter(device, nvml)
        except Exception as error:  # errors differ between drivers
            self.note = f'Not measured: {error}'

    def begin(self, step: int) -> None:
        """Start an interval, after `step` training steps."""
        if self.note is None:
            self._begin = self._read(), step

    def end(self, step: int) -> None:
        """End an interval, after `step` training steps."""
        if self._begin is None:
            return
        joules, first = self._begin
        self._joules += self._read() - joules
        self._steps += step - first
        self._begin = None

    def lap(self, step: int) -> None:
        """Add the energy so far, for a report within an interval."""
        if self._begin is not None:
            self.end(step)
            self.begin(step)

    def joules_per_step(self) -> float | None:
        """Return the mean over all ended intervals; None without steps."""
        return self._joules / self._steps if self._steps else None


def _counter(device: torch.device, nvml: Any) -> Callable[[], float]:
    """Return a function that reads a device's energy counter in joules.

    Raises:
        Exception: If it cannot be read; the message gives the reason.
    """
    if device.type != 'cuda':
        raise ValueError(f'NVML counts NVIDIA GPUs, this is a {device.type}')
    if nvml is None:
        try:
            nvml = import_module('pynvml')
        except ImportError:
            raise ValueError(
                'nvidia-ml-py is not installed (pip install mmfrozen[energy])'
            ) from None
    uuid = getattr(torch.cuda.get_device_properties(device), 'uuid', None)
    if uuid is None:  # CUDA_VISIBLE_DEVICES changes the indices
        raise ValueError('this torch does not tell which GPU it uses')
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}')

    def read() -> float:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

    read()  # older GPUs have no counter
    return read
