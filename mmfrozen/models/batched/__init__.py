"""MMDetection's detectors with targets, proposals and losses of all images at
once, so that a training step does not wait for Python (docs/fast_step.md)."""

from .data_preprocessor import (
    BatchedDetDataPreprocessor as BatchedDetDataPreprocessor,
)
from .detector import BatchedTwoStageDetector as BatchedTwoStageDetector
from .retina_head import BatchedRetinaHead as BatchedRetinaHead
from .roi_heads import BatchedCascadeRoIHead as BatchedCascadeRoIHead
from .roi_heads import BatchedStandardRoIHead as BatchedStandardRoIHead
from .rpn_head import BatchedRPNHead as BatchedRPNHead
