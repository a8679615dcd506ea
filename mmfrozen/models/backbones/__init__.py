"""Backbones that MMDetection lacks."""

from .timm_backbone import TimmBackbone as TimmBackbone
