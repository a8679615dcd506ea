"""Backbones, necks and heads that MMDetection lacks."""

from . import backbones as backbones
from . import heads as heads
from . import necks as necks
