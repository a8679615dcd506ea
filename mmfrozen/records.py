"""Records that cross the folders of the package, and their JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of scalar parameters of a module.

    Attributes:
        total: All parameters.
        trainable: Those that require grad.
    """

    total: int
    trainable: int

    @property
    def frozen(self) -> int:
        """Parameters that do not require grad."""
        return self.total - self.trainable


@dataclass(frozen=True)
class BackboneRecord:
    """What a run did with its backbone: ``WORK_DIR/backbone.json``.

    Attributes:
        state: ``'frozen'``, ``'finetuned'`` or ``'scratch'``.
        backbone_type: Class of the backbone.
        classifier: Checkpoint that it was filled from.
        backbone: Parameters of the backbone.
        model: Parameters of the whole detector.
        verified_iter: Last iteration at which a frozen backbone was found
            bitwise equal to its classifier.
    """

    state: str
    backbone_type: str
    classifier: str | None
    backbone: ParameterCounts
    model: ParameterCounts
    verified_iter: int | None


@dataclass(frozen=True)
class RunRecord:
    """What a work dir tells about its run.

    Attributes:
        backbone: State and parameter counts; None for stock runs.
        step: Step of the last evaluation; None before the first.
        metrics: Results of that evaluation by name, such as
            ``lvis/bbox_APr``, as fractions of 1.
        step_seconds: Median time of a training step; None before the first
            was logged.
    """

    backbone: BackboneRecord | None
    step: int | None
    metrics: dict[str, float]
    step_seconds: float | None
