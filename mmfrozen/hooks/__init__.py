"""Hooks that verify and record a run."""

from .frozen_guard import FrozenGuardHook as FrozenGuardHook
