"""Hooks that verify and record a run."""

from .drift import DriftHook as DriftHook
from .frozen_guard import FrozenGuardHook as FrozenGuardHook
from .step_cost import StepCostHook as StepCostHook
