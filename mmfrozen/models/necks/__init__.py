"""Necks that the host lacks."""

from .nas_fpn import AnySizeNASFPN as AnySizeNASFPN
