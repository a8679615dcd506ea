"""A visualizer backend that does not end a run if it cannot write."""

from __future__ import annotations

import logging
import os
from typing import Any

from mmengine.logging import print_log
from mmengine.visualization import LocalVisBackend

from ..registry import VISBACKENDS


@VISBACKENDS.register_module()
class SafeLocalVisBackend(LocalVisBackend):
    """MMEngine's LocalVisBackend that tolerates a full disk.

    Lines that cannot be written are dropped as a whole; the first is logged as
    an error.
    """

    _is_failing = False

    def _dump(self, value_dict: dict, file_path: str, *args: Any) -> None:
        size = os.path.getsize(file_path) if os.path.exists(file_path) else 0
        try:
            super()._dump(value_dict, file_path, *args)
        except OSError as error:
            if not self._is_failing:
                print_log(
                    f'{file_path} must be written, got {error.strerror}. Free '
                    'disk space: the run continues without its scalars.',
                    'current',
                    logging.ERROR,
                )
            self._is_failing = True
            if os.path.exists(file_path):
                os.truncate(file_path, size)  # remove a partly written line
        else:
            self._is_failing = False
