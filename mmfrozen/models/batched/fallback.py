"""Helpers to decide and log that a part falls back to MMDetection's code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.logging import print_log


def first_overridden(
    part: Any, base: type, names: Iterable[str]
) -> str | None:
    """Return the first method that a part overrides but the batched code would
    not call; None if there is none."""
    changed = [
        n for n in names if getattr(type(part), n) is not getattr(base, n)
    ]
    return f'{type(part).__name__}.{changed[0]}' if changed else None


def first_reason(reasons: Iterable[str | None]) -> str | None:
    """Return the first reason that is not None or empty; else None."""
    return next((reason for reason in reasons if reason), None)


def log_fallback(part: Any, reason: str | None) -> str | None:
    """Log a reason to fall back once for each part; return the reason."""
    logged = vars(part).setdefault('_logged_fallbacks', set())
    if reason and reason not in logged:
        logged.add(reason)
        print_log(
            f'{type(part).__name__} works image by image, as MMDetection '
            f'does: {reason} has no batched form.',
            logger='current',
            level=30,
        )
    return reason
