"""Evaluation, and whom it helps."""

from .coco_metric import StratifiedCocoMetric as StratifiedCocoMetric
from .engine import Matches as Matches
from .engine import match as match
from .ground_truth import GroundTruth as GroundTruth
from .lvis_metric import StratifiedLVISMetric as StratifiedLVISMetric
from .results import read_results as read_results
