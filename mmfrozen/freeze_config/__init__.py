"""Conversion of any MMDetection config into a frozen one and its control."""

from .convert import Result as Result
from .convert import control_path as control_path
from .convert import freeze_config as freeze_config
from .decide import CannotFreezeError as CannotFreezeError
