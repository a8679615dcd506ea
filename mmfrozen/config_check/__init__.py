"""Checks of the whole config before anything is built from it."""

from .check import check_config as check_config
