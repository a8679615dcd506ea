"""Detector parts that compute targets, proposals and losses for a whole batch
at once, so that a training step launches few kernels and rarely synchronises
with the GPU (docs/fast_step.md)."""

from .data_preprocessor import (
    BatchedDetDataPreprocessor as BatchedDetDataPreprocessor,
)
from .detector import BatchedTwoStageDetector as BatchedTwoStageDetector
from .retina_head import BatchedRetinaHead as BatchedRetinaHead
from .roi_heads import BatchedCascadeRoIHead as BatchedCascadeRoIHead
from .roi_heads import BatchedStandardRoIHead as BatchedStandardRoIHead
from .rpn_head import BatchedRPNHead as BatchedRPNHead
