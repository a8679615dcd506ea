"""Read the records of StepCostHook."""

from __future__ import annotations

from pathlib import Path

from ...cost import Flops
from ...cost.flops import sum_flops
from ...run_files import STEP_COST, StepCost

FLOPS_UNITS = (
    (10**21, 'ZFLOPs'),
    (10**18, 'EFLOPs'),
    (10**15, 'PFLOPs'),
    (10**12, 'TFLOPs'),
    (10**9, 'GFLOPs'),
    (1, 'FLOPs'),
)


def read_step_costs(work_dir: Path) -> list[StepCost]:
    """Read the step costs of a run, which may have been resumed.

    Args:
        work_dir: Work dir of the run.

    Returns:
        One record per start, in order; empty if StepCostHook did not run.

    Raises:
        ValueError: If the file does not have the hook's content.
    """
    costs = STEP_COST.read(work_dir) or []
    if any(cost.seconds and 'step' not in cost.seconds for cost in costs):
        raise ValueError(
            f"{STEP_COST.name} must have the seconds of 'step', got others in "
            f'{str(work_dir)!r}. Train again, or remove it.'
        )
    return costs


def choose(costs: list[StepCost]) -> StepCost | None:
    """Return the record with the most timed steps; among equals the latest."""
    return max(reversed(costs), key=lambda c: c.num_steps, default=None)


def total_flops(cost: StepCost | None) -> Flops | None:
    """Return the FLOPs of a step in one process, summed over components."""
    if cost is None or cost.flops is None:
        return None
    return sum_flops(cost.flops.components.values())


def peak_bytes(cost: StepCost | None) -> int | None:
    """Return the peak memory in bytes: allocated on CUDA, else resident."""
    if cost is None:
        return None
    memory = cost.memory
    return memory.cuda_allocated_peak_bytes or memory.resident_peak_bytes


def flops_unit(most: float) -> tuple[int, str]:
    """Return the factor and name of a readable unit for ``most`` FLOPs."""
    return next(x for x in FLOPS_UNITS if most >= x[0] or x[0] == 1)
