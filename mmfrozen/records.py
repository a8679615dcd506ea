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
        state: What FrozenGuardHook was told: ``'frozen'``, ``'partial'``,
            ``'finetuned'`` or ``'scratch'``.
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


@dataclass(frozen=True)
class ModuleReport:
    """What trains of one part of a model.

    Attributes:
        name: Of the part, such as ``roi_head.bbox_head``.
        status: ``'frozen'``: no parameter trains and no running statistic
            moves; ``'trained'``: all parameters train; ``'partial'``: some
            do, or statistics move where none does; ``'empty'``: it has no
            parameters.
        parameters: Its parameters.
        moving_norms: Its layers whose running statistics move in training.
    """

    name: str
    status: str
    parameters: ParameterCounts
    moving_norms: int


@dataclass(frozen=True)
class StageDrift:
    """How far the tensors of one stage are from what they were.

    Attributes:
        num_tensors: Parameters and buffers.
        num_changed: Those whose bits changed.
        relative_l2: Length of the parameters' move / their length before;
            None where it is not defined.
        cosine: Between the parameters before and after; None likewise.
        statistics_relative_l2: As ``relative_l2``, of the running
            statistics; None where there are none.
    """

    num_tensors: int
    num_changed: int
    relative_l2: float | None
    cosine: float | None
    statistics_relative_l2: float | None


@dataclass(frozen=True)
class DriftRecord:
    """One entry of ``WORK_DIR/drift.json``.

    Attributes:
        iter: Training steps done.
        epoch: Epochs done.
        reference: Digest of the weights that the drift is measured from.
        stages: By stage, in order of the state dict; ``all`` is the last.
    """

    iter: int
    epoch: int
    reference: str
    stages: dict[str, StageDrift]


@dataclass(frozen=True)
class Verification:
    """A checkpoint's backbone beside its classifier.

    Attributes:
        checkpoint: The trained detector.
        classifier: The weights that it was compared with.
        changed: Names of the tensors whose bits differ.
        stages: As in :class:`DriftRecord`.
    """

    checkpoint: str
    classifier: str
    changed: list[str]
    stages: dict[str, StageDrift]
