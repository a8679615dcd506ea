"""This package checks a whole config before anything is built from it, so
that a misspelt key fails at once with its path."""

from .check import check_config as check_config
from .check import faults as faults
