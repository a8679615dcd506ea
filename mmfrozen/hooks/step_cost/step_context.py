"""Describe the context of a measurement: device, dtype, versions, loader."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.runner import Runner

from ...engine import autocast_dtype
from ...version import __version__

PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet')


def describe(runner: Runner, device: torch.device) -> dict[str, Any]:
    """Return the StepCost fields that are known when a run starts."""
    filename = runner.cfg.filename
    world_size = get_world_size()
    return dict(
        config=Path(filename).stem if filename else None,
        begin_iter=runner.iter,
        iters_per_epoch=iters_per_epoch(runner, world_size),
        device=device_name(device),
        world_size=world_size,
        accumulative_counts=getattr(
            runner.optim_wrapper, '_accumulative_counts', 1
        ),
        seed=runner.seed,
        versions=read_versions(device),
    )


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without ``torch.``, such as ``float32``."""
    return str(dtype).rpartition('.')[2]


def autocast_name(device_type: str) -> str:
    """Return the suffix of a dtype under autocast; empty if it is off."""
    dtype = autocast_dtype(device_type)
    return f' with autocast to {dtype_name(dtype)}' if dtype else ''


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the CPU's with the number of threads."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    if device.type != 'cpu':
        return device.type
    cpus = Path('/proc/cpuinfo')
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [x.partition(':')[2] for x in lines if x.startswith('model name')]
    model = models[0].strip() if models else platform.machine()
    return f'{model}, {torch.get_num_threads()} threads'


def read_versions(device: torch.device) -> dict[str, str]:
    """Return the versions of the software that affects the results."""
    found = {'mmfrozen': __version__, 'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # forks have other package names
            module = __import__(name)
            found[name] = module.__version__
    if device.type == 'cuda':
        found['cuda'] = str(torch.version.cuda)
        found['cudnn'] = str(torch.backends.cudnn.version())
    return found


def iters_per_epoch(runner: Runner, world_size: int) -> int | None:
    """Return the number of training steps of an epoch; None if unknown."""
    loader = runner.train_dataloader
    try:
        length = len(loader)
    except TypeError:  # an iterable dataset
        return None
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    if isinstance(sampler, InfiniteSampler):  # its length covers all ranks
        return -(-length // world_size)
    return length
