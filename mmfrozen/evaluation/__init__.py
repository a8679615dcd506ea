"""Stratified COCO and LVIS evaluation."""

from .coco_metric import StratifiedCocoMetric as StratifiedCocoMetric
from .ground_truth import GroundTruth as GroundTruth
from .lvis_metric import StratifiedLVISMetric as StratifiedLVISMetric
from .match_detections import Matches as Matches
from .match_detections import match as match
from .multi_datasets import (
    StratifiedMultiDatasetsEvaluator as StratifiedMultiDatasetsEvaluator,
)
from .result_files import read_results as read_results
