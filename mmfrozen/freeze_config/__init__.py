"""Conversion of any MMDetection config into a frozen one and its control."""

from .convert import ZOO as ZOO
from .convert import Result as Result
from .convert import control_path as control_path
from .convert import freeze_config as freeze_config
from .convert import locate as locate
from .decide import CannotFreezeError as CannotFreezeError
