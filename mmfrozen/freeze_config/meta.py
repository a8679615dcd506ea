"""A builder of MMDetection's models that needs no memory, weights or
network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmengine.utils import get_installed_path
from torch import nn

from ..empty_weights import empty_weights


def build(cfg: Any) -> nn.Module:
    """Build a model or backbone from its config, with empty parameters."""
    cfg = _without_groups(cfg.deepcopy())
    teacher = cfg.get('teacher_config')
    if 'teacher_ckpt' in cfg:
        cfg.teacher_ckpt = None  # the constructor would load or download it
    if isinstance(teacher, str) and not Path(teacher).is_file():
        # such paths are relative to MMDetection's root folder
        cfg.teacher_config = str(
            Path(get_installed_path('mmdet'), '.mim', teacher)
        )
    with DefaultScope.overwrite_default_scope('mmdet'), empty_weights():
        return MODELS.build(cfg)


def _without_groups(cfg: Any) -> Any:
    """Replace MMSyncBN, whose constructor needs a process group, in place."""
    for key, value in cfg.items() if isinstance(cfg, dict) else enumerate(cfg):
        if value == 'MMSyncBN':
            cfg[key] = 'SyncBN'  # has the same parameters
        elif isinstance(value, (dict, list)):
            _without_groups(value)
    return cfg
