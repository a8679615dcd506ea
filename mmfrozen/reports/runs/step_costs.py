"""Read what StepCostHook wrote."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...cost import Flops
from ...cost.flops import sum_flops
from ...run_files import Spread, StepCost, StepFlops, StepMemory

FILE = 'step_cost.json'
FLOPS_UNITS = (
    (10**21, 'ZFLOPs'),
    (10**18, 'EFLOPs'),
    (10**15, 'PFLOPs'),
    (10**12, 'TFLOPs'),
    (10**9, 'GFLOPs'),
    (1, 'FLOPs'),
)


def read_step_costs(work_dir: Path) -> list[StepCost]:
    """Read all starts of a run.

    Args:
        work_dir: Of the run.

    Returns:
        In their order; empty where StepCostHook did not run.

    Raises:
        ValueError: If the file is not what the hook writes.
    """
    path = Path(work_dir, FILE)
    if not path.is_file():
        return []
    try:
        return [_parse(entry) for entry in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f'{path} must be what StepCostHook writes, got '
            f'{type(error).__name__}: {error}. Train again, or remove it.'
        ) from error


def choose(costs: list[StepCost]) -> StepCost | None:
    """Choose the start that was timed longest; the later of equals."""
    return max(reversed(costs), key=lambda c: c.num_steps, default=None)


def _parse(entry: dict[str, Any]) -> StepCost:
    known = {field.name for field in fields(StepCost)}
    cost = {name: entry[name] for name in known}
    if cost['batch_shape']:
        cost['batch_shape'] = tuple(cost['batch_shape'])
    cost['seconds'] = {k: Spread(**v) for k, v in cost['seconds'].items()}
    if cost['seconds'] and 'step' not in cost['seconds']:
        raise KeyError('step')
    cost['memory'] = StepMemory(**cost['memory'])
    flops = cost['flops']
    if flops:
        flops['components'] = {
            k: Flops(**v) for k, v in flops['components'].items()
        }
        if flops['batch_shape']:
            flops['batch_shape'] = tuple(flops['batch_shape'])
        cost['flops'] = StepFlops(**flops)
    return StepCost(**cost)


def total_flops(cost: StepCost | None) -> Flops | None:
    """FLOPs of a step in one process, over all components."""
    if cost is None or cost.flops is None:
        return None
    return sum_flops(cost.flops.components.values())


def peak_bytes(cost: StepCost | None) -> int | None:
    """CUDA's allocated peak, elsewhere the resident set's."""
    if cost is None:
        return None
    memory = cost.memory
    return memory.cuda_allocated_peak_bytes or memory.resident_peak_bytes


def flops_unit(most: float) -> tuple[int, str]:
    """The unit in which so many FLOPs make a number that can be read."""
    return next(x for x in FLOPS_UNITS if most >= x[0] or x[0] == 1)
