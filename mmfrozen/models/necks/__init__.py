"""Necks that MMDetection lacks."""

from .bifpn import AnySizeBiFPN as AnySizeBiFPN
from .nas_fpn import AnySizeNASFPN as AnySizeNASFPN
from .simple_feature_pyramid import (
    SimpleFeaturePyramid as SimpleFeaturePyramid,
)
