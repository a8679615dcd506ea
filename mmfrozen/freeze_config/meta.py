"""Build MMDetection's models without memory, weights or network."""

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
        cfg.teacher_ckpt = None  # loaded, downloaded even, when built
    if isinstance(teacher, str) and not Path(teacher).is_file():
        # relative to MMDetection's root, where its users stand
        cfg.teacher_config = str(
            Path(get_installed_path('mmdet'), '.mim', teacher)
        )
    with DefaultScope.overwrite_default_scope('mmdet'), empty_weights():
        return MODELS.build(cfg)


def _without_groups(cfg: Any) -> Any:
    """Ask for no process group, as MMSyncBN does when it is built."""
    for key, value in cfg.items() if isinstance(cfg, dict) else enumerate(cfg):
        if value == 'MMSyncBN':
            cfg[key] = 'SyncBN'  # has the same parameters
        elif isinstance(value, (dict, list)):
            _without_groups(value)
    return cfg
