"""Read the memory and the energy of the process that trains."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import psutil
import torch

from ...run_files import StepMemory


class MemoryMeter:
    """Keeps the largest of what it read.

    Args:
        device: That the model is on.
        read_resident: Returns the bytes of the process's resident set
            (default: psutil's).
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
        """Forget CUDA's peak, which a validation may have raised.

        MMDetection's logger does the same whenever it logs.
        """
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._cuda)

    def sample_resident(self) -> None:
        """Take the resident set; costs microseconds."""
        self._resident = max(self._resident, self._read_resident())

    def sample_cuda(self) -> None:
        """Take CUDA's peaks, before MMDetection's logger resets them."""
        if self._cuda:
            stats = torch.cuda.memory_stats(self._cuda)
            self._allocated = max(
                self._allocated, stats['allocated_bytes.all.peak']
            )
            self._reserved = max(
                self._reserved, stats['reserved_bytes.all.peak']
            )

    def read(self) -> StepMemory:
        """What was the largest so far."""
        return StepMemory(
            cuda_allocated_peak_bytes=self._allocated or None,
            cuda_reserved_peak_bytes=self._reserved or None,
            resident_peak_bytes=self._resident or None,
            process_peak_bytes=process_peak_bytes(),
        )


def process_peak_bytes() -> int | None:
    """Largest resident set since the process began; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024  # KiB on Linux


class EnergyMeter:
    """Energy of a GPU over stretches of training, from NVIDIA's driver.

    Args:
        device: That the model is on.
        nvml: The module ``pynvml``; imported if None.
    """

    def __init__(self, device: torch.device, nvml: Any = None) -> None:
        self.note: str | None = None
        self._begin: tuple[float, int] | None = None
        self._joules, self._steps = 0.0, 0
        try:
            self._read = _counter(device, nvml)
        except Exception as error:  # every driver has its own
            self.note = f'Not measured: {error}'

    def begin(self, step: int) -> None:
        """A stretch of training begins, with this many steps done."""
        if self.note is None:
            self._begin = self._read(), step

    def end(self, step: int) -> None:
        """A stretch of training ends."""
        if self._begin is None:
            return
        joules, first = self._begin
        self._joules += self._read() - joules
        self._steps += step - first
        self._begin = None

    def lap(self, step: int) -> None:
        """A report is due within a stretch."""
        if self._begin is not None:
            self.end(step)
            self.begin(step)

    def joules_per_step(self) -> float | None:
        """Mean over all stretches that have ended."""
        return self._joules / self._steps if self._steps else None


def _counter(device: torch.device, nvml: Any) -> Callable[[], float]:
    """Find a device's counter of joules.

    Raises:
        Exception: If there is none; its text says why.
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
    if uuid is None:  # an index would be wrong under CUDA_VISIBLE_DEVICES
        raise ValueError('this torch does not tell which GPU it uses')
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}')

    def read() -> float:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

    read()  # older GPUs have no counter
    return read
