"""Hooks that verify and record a run."""

from .drift import DriftHook as DriftHook
from .guard.frozen_guard import FrozenGuardHook as FrozenGuardHook
from .step_cost.step_cost_hook import StepCostHook as StepCostHook
