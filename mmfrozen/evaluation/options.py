"""Check the options of the metrics when they are constructed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import did_you_mean

#: Options of MMDetection's metrics that these metrics do not support, and why.
UNSUPPORTED = {
    'iou_thrs': 'the thresholds are .50:.05:.95',
    'file_client_args': 'MMDetection dropped it for backend_args',
    'use_mp_eval': 'evaluation takes seconds without it',
}


def refuse_unknown(
    name: str, unknown: Mapping[str, Any], known: Iterable[str]
) -> None:
    """Refuse unknown options and suggest the nearest name.

    Raises:
        TypeError: If there is an unknown option.
    """
    given = {
        k: v
        for k, v in unknown.items()
        if not (k in UNSUPPORTED and v in (None, False))
    }
    for key in given:
        if key in UNSUPPORTED:
            raise TypeError(
                f'{name} must be without {key}, got {given[key]!r}: '
                f'{UNSUPPORTED[key]}. Remove it.'
            )
        raise TypeError(
            f'{name} must have known options, got '
            f'{key!r}{did_you_mean(key, known)}. Correct it.'
        )


def check_metric(name: str, metric: str | list[str]) -> list[str]:
    """Check the option ``metric`` and return it as a list.

    Raises:
        ValueError: If it is not ``'bbox'``, ``'segm'`` or both.
    """
    kinds = [metric] if isinstance(metric, str) else list(metric)
    for kind in kinds:
        if kind in ('proposal', 'proposal_fast'):
            raise ValueError(
                f"{name}.metric must be 'bbox', 'segm' or both, got "
                f"{kind!r}. Evaluate proposals with MMDetection's "
                f'{name.removeprefix("Stratified")}.'
            )
        if kind not in ('bbox', 'segm'):
            raise ValueError(
                f"{name}.metric must be 'bbox', 'segm' or both, got "
                f'{kind!r}{did_you_mean(kind, ("bbox", "segm"))}. '
                'Correct it.'
            )
    if not kinds or len(set(kinds)) < len(kinds):
        raise ValueError(
            f"{name}.metric must be 'bbox', 'segm' or both, got {metric!r}. "
            'Correct it.'
        )
    return kinds
