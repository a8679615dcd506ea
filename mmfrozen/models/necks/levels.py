"""Checks of the options and input levels of necks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def option_error(required: str, got: Any, what_to_do: str) -> ValueError:
    """Return an error about an option of the neck."""
    return ValueError(f'model.neck.{required}, got {got!r}. {what_to_do}.')


def is_count(value: Any, least: int = 1) -> bool:
    """Return whether a value is an integer of at least ``least``."""
    return type(value) is int and value >= least


def check_in_channels(in_channels: Any) -> None:
    """Raise an error unless a value is a list of positive integers."""
    is_list = isinstance(in_channels, (list, tuple)) and len(in_channels) > 0
    if not (is_list and all(map(is_count, in_channels))):
        raise option_error(
            'in_channels must be a list of positive integers',
            in_channels,
            "List the channels of the backbone's levels, finest first",
        )


def check_start_level(
    start_level: Any, num_levels: int, num_outs: int
) -> None:
    """Raise an error unless ``start_level`` leaves 1 to ``num_outs`` levels of
    the input."""
    if not (
        is_count(start_level, least=0)
        and 1 <= num_levels - start_level <= num_outs
    ):
        raise option_error(
            f'start_level must leave 1 to {num_outs} of the {num_levels} '
            'levels in in_channels',
            start_level,
            'Set start_level=1 where in_channels lists C2 to C5',
        )


def check_levels(
    inputs: Sequence[Tensor], in_channels: Sequence[int], start_level: int
) -> None:
    """Raise an error if levels differ from ``in_channels`` or do not halve in
    size."""
    channels = [x.shape[1] for x in inputs]
    if channels != list(in_channels):
        raise option_error(
            f'in_channels must be the channels {channels} of the '
            "backbone's levels",
            in_channels,
            'Set it accordingly, or choose other levels with out_indices',
        )
    sizes = [tuple(x.shape[-2:]) for x in inputs[start_level:]]
    for i, size in enumerate(sizes[1:]):
        for side, finer in enumerate(sizes[i]):
            if size[side] not in (finer // 2, (finer + 1) // 2):
                raise option_error(
                    'in_channels must list levels that halve in size',
                    sizes,
                    'Remove the others, or remove the dilation from the '
                    'backbone',
                )
