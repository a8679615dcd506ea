"""The whole config, checked before anything is built from it."""

from .check import check_config as check_config
