"""Verification of written configs: they are loaded and built before success is
reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ..errors import one_line, remedy_for
from ..freezing import find_faults
from ..freezing.capacity import capacity_warning
from ..run_files import ParameterCounts
from . import meta
from .decide import CannotFreezeError, find_backbones, is_detectors


def load(path: Path) -> Config:
    """Load a config; raise a one-line error if that fails."""
    try:
        is_lazy = Config._is_lazy_import(str(path))
        cfg = None if is_lazy else Config.fromfile(path)
    except Exception as error:  # a config is a program and may raise anything
        raise CannotFreezeError(
            f'A config must load in this environment, got {one_line(error)}. '
            f'{remedy_for(error)}'
        ) from error
    if cfg is None:
        raise CannotFreezeError(
            'A config must inherit by _base_ = ..., got one with read_base() '
            'or imported classes. Write its bases as _base_.'
        )
    return cfg


def verify(
    base: Config, out: Path, control: Path
) -> tuple[ParameterCounts | None, list[str]]:
    """Load a frozen config and its control from disk and build both.

    Args:
        base: The config from which they inherit.
        out: Path of the frozen config.
        control: Path of its control.

    Returns:
        Parameter counts of the frozen detector, and warnings. The counts are
        None if only the backbone can be built here.

    Raises:
        CannotFreezeError: If the backbone is not frozen, or if the control
            does not train all of it.
    """
    model, warnings = _build(load(out), base)
    moving = {
        name: _num_trainable(module) for name, module in _backbones(model)
    }
    model.train()
    for name, module in _backbones(model):
        faults = find_faults(module)
        if moving[name] or faults:
            raise CannotFreezeError(
                f'{name} must be frozen by the written config, got '
                f'{"; ".join(faults) or "parameters that require grad"}. '
                'Please report this config.'
            )
    other = _build_backbones(load(control))
    other.train()
    for name, module in _backbones(other):
        idle = len(list(module.parameters())) - _num_trainable(module)
        if idle:
            raise CannotFreezeError(
                f'{name} must train every stage in the control, got {idle} '
                'frozen parameters. Please report this config.'
            )
    if warnings:
        return None, warnings
    counts = _count(model)
    little = capacity_warning(counts.trainable, counts.total)
    return counts, [little] if little else []


def _build(cfg: Config, base: Config) -> tuple[nn.Module, list[str]]:
    """Build the model; if the base's cannot be built either, build the part
    that can.

    That is a tracker's detector, or else the backbones.
    """
    try:
        return meta.build(cfg.model), []
    except Exception as error:  # a constructor may raise anything
        why = one_line(error)
    if _builds(base.model):
        raise CannotFreezeError(
            f'model must build from the written config, got {why}. Please '
            'report this config.'
        )
    if _builds(cfg.model.get('detector')):
        return meta.build(cfg.model.detector), []
    return _build_backbones(cfg), [
        'only the backbone was verified: the rest does not build in this '
        f'environment ({why})'
    ]


def _build_backbones(cfg: Config) -> nn.Module:
    parts = nn.ModuleDict()
    for path, settings in find_backbones(cfg.model):
        if is_detectors(path):
            parts[path.replace('.', '-')] = part = nn.Module()
            part.backbone = meta.build(settings)
    return parts


def _builds(part: Any) -> bool:
    try:
        return bool(part) and meta.build(part) is not None
    except Exception:  # a constructor may raise anything
        return False


def _num_trainable(module: nn.Module) -> int:
    return sum(p.requires_grad for p in module.parameters())


def _backbones(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found = [(n, m) for n, m in model.named_modules() if is_detectors(n)]
    assert found, 'the plan names at least one'
    return found


def _count(model: nn.Module) -> ParameterCounts:
    """Count the parameters of the detector, without a teacher or a tracker's
    second network."""
    sizes = [
        (p.numel(), p.requires_grad)
        for name, p in model.named_parameters()
        if not name.startswith(('teacher.', 'reid.'))
    ]
    return ParameterCounts(
        total=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )
