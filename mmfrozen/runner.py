"""A runner that checks its config before it builds anything."""

from __future__ import annotations

import logging

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from .config_check import check_config
from .registry import RUNNERS


@RUNNERS.register_module()
class CheckedRunner(Runner):
    """MMEngine's runner, whose config has been checked.

    What MMDetection lacks: see :func:`~mmfrozen.config_check.check_config`.

    Example config::

        runner_type = 'mmfrozen.CheckedRunner'
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build a runner, or say what is wrong with its config.

        Raises:
            ValueError: At the first fault.
        """
        warnings = check_config(cfg)
        runner = super().from_cfg(cfg)
        for warning in warnings:
            print_log(warning, logger='current', level=logging.WARNING)
        return runner
