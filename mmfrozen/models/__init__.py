"""Backbones, necks, heads and losses that MMDetection lacks, and wrappers that
freeze modules."""

from . import backbones as backbones
from . import batched as batched
from . import heads as heads
from . import losses as losses
from . import necks as necks
from .frozen import FrozenBackbone as FrozenBackbone
from .frozen import FrozenModule as FrozenModule
