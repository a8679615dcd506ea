"""Hooks that verify, record and accelerate a run."""

from .buffered_runtime_info import (
    BufferedRuntimeInfoHook as BufferedRuntimeInfoHook,
)
from .checkpoint.safe_checkpoint import (
    SafeCheckpointHook as SafeCheckpointHook,
)
from .cuda_graph import CUDAGraphHook as CUDAGraphHook
from .drift import DriftHook as DriftHook
from .feature_cache import FeatureCacheHook as FeatureCacheHook
from .frozen_aware_ema import FrozenAwareEMAHook as FrozenAwareEMAHook
from .frozen_engine import FrozenEngineHook as FrozenEngineHook
from .guard.frozen_guard import FrozenGuardHook as FrozenGuardHook
from .non_finite.non_finite_hook import NonFiniteHook as NonFiniteHook
from .safe_vis_backend import SafeLocalVisBackend as SafeLocalVisBackend
from .step_cost.step_cost_hook import StepCostHook as StepCostHook
