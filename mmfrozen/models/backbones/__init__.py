"""Backbones that MMDetection lacks, and the way to freeze its own."""

from .frozen import FrozenBackbone as FrozenBackbone
from .frozen import FrozenModule as FrozenModule
from .timm_backbone import TimmBackbone as TimmBackbone
