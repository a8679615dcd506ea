"""A runner that checks its config before it builds anything."""

from __future__ import annotations

import atexit
import logging
from typing import Any

import torch.distributed
from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.logging import print_log
from mmengine.runner import Runner

from .config_check import check_config
from .registry import RUNNERS


@RUNNERS.register_module()
class CheckedRunner(Runner):
    """MMEngine's runner with a check of the whole config.

    What MMDetection lacks: see :func:`~mmfrozen.config_check.check_config`.
    Its processes leave their process group before Python ends, as PyTorch
    recommends; otherwise Gloo's threads may abort a run that has completed
    (pytorch/pytorch#179291).

    Example config::

        runner_type = 'mmfrozen.CheckedRunner'
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Check a config, then build its runner.

        Raises:
            ValueError: At the first fault of the config.
        """
        warnings = check_config(cfg)
        runner = super().from_cfg(cfg)
        for warning in warnings:
            print_log(warning, logger='current', level=logging.WARNING)
        return runner

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks at a point of the run."""
        super().call_hook(fn_name, **kwargs)
        # Not after a failure: others may still wait for this process, and
        # leaving the group would wait for them.
        if fn_name == 'after_run':
            atexit.register(_leave_group)


def _leave_group() -> None:
    if is_distributed():
        torch.distributed.destroy_process_group()
