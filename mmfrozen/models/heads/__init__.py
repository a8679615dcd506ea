"""Heads with norms, activations, priors and precision options that
MMDetection's heads lack."""

from .bbox_head import NormActConvFCBBoxHead as NormActConvFCBBoxHead
from .prior_linear import PriorLinear as PriorLinear
from .retina_head import NormActRetinaHead as NormActRetinaHead
from .roi_extractor import Float32RoIExtractor as Float32RoIExtractor
from .rpn_head import NormActRPNHead as NormActRPNHead
