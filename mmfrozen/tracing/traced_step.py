"""Dataclasses of a traced training step."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..cost import Flops
from ..cost.flops import sum_flops

#: What is alive at the peak.
WEIGHTS, STATE = 'weights and buffers', "optimizer's state"
FORWARD, BACKWARD = 'made in the forward pass', 'made in the backward pass'
PARTS = (WEIGHTS, STATE, FORWARD, BACKWARD)


@dataclass(frozen=True)
class ComponentCost:
    """What one component costs in a training step.

    Attributes:
        name: Such as ``'backbone.stage 2'`` or ``'roi_head.mask_head'``.
        flops: 2 a multiply-add.
        parameters: All of its parameters.
        trainable: Those that require grad.
        saved_bytes: Kept in its forward pass for the backward pass.
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
        components: In the order of the model; their sum is the step.
        parameter_bytes: Of parameters and buffers.
        gradient_bytes: Of the gradients of parameters: also what
            distributed training reduces a step.
        optimizer_bytes: Of the optimizer's state.
        peak_bytes: The most that is alive at a time.
        peak_phase: When: ``'forward'``, ``'backward'`` or ``'optimizer'``.
        peak_parts: Its parts, by what they are.
        timeline: FLOPs so far and bytes alive, after each operator.
        phases: Operators until the end of each phase.
        uncounted: Calls of operators that compute and have no formula.
        uncounted_elements: Numbers that they made.
        rois: Of an image, sampled and positive, by head.
        positives: Priors or queries of an image that an assigner chose, in
            the mean of its calls, by assigner; of heads without a sampler.
        optimizer: Its class; None where the config has none.
        left_out: Components that are not in it; empty for a whole step.
        failure: What ended it early; empty if nothing did.
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
        """The components' sum."""
        return ComponentCost(
            'total',
            sum_flops(c.flops for c in self.components),
            sum(c.parameters for c in self.components),
            sum(c.trainable for c in self.components),
            sum(c.saved_bytes for c in self.components),
        )
