"""Dataclasses of the cost of a traced training step."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..cost import Flops
from ..cost.flops import sum_flops

#: Labels of the memory that is alive at the peak.
WEIGHTS, STATE = 'weights and buffers', "optimizer's state"
FORWARD, BACKWARD = 'made in the forward pass', 'made in the backward pass'
PARTS = (WEIGHTS, STATE, FORWARD, BACKWARD)


@dataclass(frozen=True)
class ComponentCost:
    """Cost of one component in a training step.

    Attributes:
        name: Name such as ``'backbone.stage 2'`` or ``'roi_head.mask_head'``.
        flops: FLOPs, at 2 per multiply-add.
        parameters: Number of parameters.
        trainable: Number of parameters that require grad.
        saved_bytes: Bytes saved in its forward pass for the backward pass.
    """

    name: str
    flops: Flops = Flops()
    parameters: int = 0
    trainable: int = 0
    saved_bytes: int = 0


@dataclass(frozen=True)
class TracedStep:
    """Cost of one training step.

    Attributes:
        components: Costs of the components, in the order of the model.
        parameter_bytes: Bytes of parameters and buffers.
        gradient_bytes: Bytes of the gradients of parameters, which distributed
            training also reduces in each step.
        optimizer_bytes: Bytes of the optimizer's state.
        peak_bytes: Maximum bytes alive at a time.
        peak_phase: Phase of the peak: ``'forward'``, ``'backward'`` or
            ``'optimizer'``.
        peak_parts: Bytes alive at the peak, by label in :data:`PARTS`.
        timeline: FLOPs so far and bytes alive after each operator.
        phases: Number of operators until the end of each phase.
        uncounted: Number of calls, by name, of operators that do arithmetic
            and have no formula.
        uncounted_elements: Number of values that they returned.
        rois: Regions of interest per image, sampled and positive, by head.
        positives: Mean number of positive priors or queries per image, by
            assigner, for heads without a sampler.
        optimizer: Class name of the optimizer; None if the config has none.
        left_out: Components that are not included; empty for a whole step.
        failure: Error that ended the step early; empty if there was none.
    """

    components: list[ComponentCost]
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    peak_bytes: int
    peak_phase: str
    peak_parts: dict[str, int]
    timeline: list[tuple[int, int]] = field(repr=False)
    phases: dict[str, int]
    uncounted: dict[str, int]
    uncounted_elements: int
    rois: dict[str, tuple[float, float]]
    positives: dict[str, float]
    optimizer: str | None
    left_out: list[str] = field(default_factory=list)
    failure: str = ''

    @property
    def total(self) -> ComponentCost:
        """Return the sum of the components."""
        return ComponentCost(
            'total',
            sum_flops(c.flops for c in self.components),
            sum(c.parameters for c in self.components),
            sum(c.trainable for c in self.components),
            sum(c.saved_bytes for c in self.components),
        )
