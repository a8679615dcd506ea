"""What keeps a part of a detector with MMDetection's own step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.logging import print_log


def overridden(part: Any, base: type, names: Iterable[str]) -> str | None:
    """Say whether a part changes methods that are not called here."""
    changed = [
        n for n in names if getattr(type(part), n) is not getattr(base, n)
    ]
    return f'{type(part).__name__}.{changed[0]}' if changed else None


def first(reasons: Iterable[str | None]) -> str | None:
    """The first reason, if there is one."""
    return next((reason for reason in reasons if reason), None)


def announce(part: Any, reason: str | None) -> str | None:
    """Log in one line that a part stays with MMDetection's step."""
    if reason:
        print_log(
            f'{type(part).__name__} works image by image, as MMDetection '
            f'does: {reason} has no batched form.',
            logger='current',
            level=30,
        )
    return reason
