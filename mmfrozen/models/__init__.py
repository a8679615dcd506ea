"""Backbones and necks that the host lacks."""

from . import backbones as backbones
from . import necks as necks
