"""The files that runs leave in a work dir: name, content, reader, writer."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from .atomic_write import write_text
from .cost.flops import Flops
from .memory_limit import memory_limit, read_record

T = TypeVar('T')


def finite(value: Any) -> Any:
    """Turn what JSON cannot hold (NaN) into null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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
            ``'finetuned'``, ``'scratch'`` or ``'thawed'``.
        backbone_type: Class of the backbone.
        classifier: Checkpoint that it was filled from, or the call of a
            class that fills itself, such as ``Hub(model='vit_b')``.
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
        stages: By component, such as ``'backbone.stage 1'``, as in
            :class:`StepFlops`, in order of the state dict; ``all`` is the
            last. Earlier releases wrote ``'layer1'``.
    """

    iter: int
    epoch: int
    reference: str
    stages: dict[str, StageDrift]


@dataclass(frozen=True)
class NonFiniteRecord:
    """One process's share of an entry of ``WORK_DIR/non_finite.json``.

    Attributes:
        iter: The step, counted from 1.
        rank: The process.
        found_in: What was not finite before anything that trains: ``'boxes'``,
            ``'pixels'``, ``'features'``, ``'features in float16'``; or
            ``'overflow'``: scaling failed; ``''`` if none of it.
        images: Id and path of the images of the batch.
        faulty_images: Those for which ``found_in`` is not finite.
        losses: By name; null where not finite.
        gradients: Parameters whose gradients are not finite, in about the
            order of the backward pass; empty where a loss is the reason.
        learning_rate: Of the first group.
        loss_scale: Of the gradient scaler; None without one.
        action: ``'stopped'`` or ``'skipped'``.
    """

    iter: int
    rank: int
    found_in: str
    images: list[str]
    faulty_images: list[str]
    losses: dict[str, float | None]
    gradients: list[str]
    learning_rate: float
    loss_scale: float | None
    action: str = ''


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


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a sample, in the unit of its field.

    Attributes:
        lower: First quartile.
        median: Second.
        upper: Third.
        num: Values in the sample.
    """

    lower: float
    median: float
    upper: float
    num: int


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one real training step, counted while it ran.

    A multiply-add is 2 FLOPs.

    Attributes:
        iter: The step, counted from 1.
        batch_shape: Its images: number, height, width; None if unknown.
        components: By component.
        uncounted: Operators without a formula, with their calls.
    """

    iter: int
    batch_shape: tuple[int, int, int] | None
    components: dict[str, Flops]
    uncounted: dict[str, int]


@dataclass(frozen=True)
class StepMemory:
    """Peaks over training steps of one process, in bytes.

    Attributes:
        cuda_allocated_peak_bytes: Of CUDA's allocator; None on other
            devices. The next likewise.
        cuda_reserved_peak_bytes: What it held from the driver.
        resident_peak_bytes: Largest resident set at the end of a forward
            pass, when all that backward needs is alive.
        process_peak_bytes: Largest resident set since the process began,
            loading and validation included; None where the system does not
            say.
    """

    cuda_allocated_peak_bytes: int | None
    cuda_reserved_peak_bytes: int | None
    resident_peak_bytes: int | None
    process_peak_bytes: int | None


@dataclass(frozen=True)
class StepCost:
    """What one training step costs: an entry of ``WORK_DIR/step_cost.json``.

    A step is one iteration of the training loop in the main process. There
    is one entry a start of the run, so that a resumed run never mixes what
    two machines measured.

    Attributes:
        config: Name of the config, without ``.py``.
        begin_iter: Training steps done when this start began.
        end_iter: Training steps done when this was written.
        iters_per_epoch: Training steps that make an epoch.
        batch_shape: Images a process, height, width: the most frequent one.
        num_batch_shapes: How many different ones there were.
        dtype: Of the parameters, and of autocast where it is on.
        device: Its name.
        world_size: Processes that train together.
        accumulative_counts: Training steps an update of the optimizer.
        seed: Of the run.
        versions: Of the packages that matter.
        timer: ``'CPU clock'`` or ``'CUDA events'``.
        num_steps: Steps that were timed.
        seconds: Time by part: ``data``, ``backbone`` (its forward pass),
            ``forward`` (the rest of it), ``backward``, ``optimizer`` (over
            the steps that updated), ``hooks`` (what is left), and ``step``,
            the sum of all; empty before the first step was timed.
        memory: Peaks.
        joules_per_step: Energy of the main process's GPU, its other users
            included; None where nothing measures it.
        flops: None where they were not counted.
        notes: Why something is missing, by name of the field.
    """

    config: str | None
    begin_iter: int
    end_iter: int
    iters_per_epoch: int | None
    batch_shape: tuple[int, int, int] | None
    num_batch_shapes: int
    dtype: str
    device: str
    world_size: int
    accumulative_counts: int
    seed: int | None
    versions: dict[str, str]
    timer: str
    num_steps: int
    seconds: dict[str, Spread]
    memory: StepMemory
    joules_per_step: float | None
    flops: StepFlops | None
    notes: dict[str, str]


@dataclass(frozen=True)
class StepsInTurn:
    """Step times of a run and its control, one after the other.

    Attributes:
        run: Seconds of a step, the wait for data left out.
        control: Likewise.
        ratio: Of the run's step to the control's, pair by pair.
        engine: What FrozenEngine said; None where it was not used.
        images: Of a batch.
        threads: Of torch.
        device: Where the steps ran.
        torch: Its version.
    """

    run: Spread
    control: Spread
    ratio: Spread
    engine: str | None
    images: int
    threads: int
    device: str
    torch: str


@dataclass(frozen=True)
class Stratum:
    """AP of a part of the categories, or of the objects of one size.

    Attributes:
        by: What the parts are made by: ``'frequency'``,
            ``'training_annotations'``, ``'training_images'``, ``'size'``
            or ``'category'``.
        name: Of the part, such as ``'r'``, ``'10-31'``, ``'small'``.
        low: Least count of training images or annotations, or least area in
            square pixels, included; None where there is none.
        high: Greatest, included; None where there is none.
        num_categories: Categories of the part.
        num_absent: Those of them without an instance to find: no AP.
        num_instances: Instances to find, crowds and ignored ones left out.
        ap: Mean AP of the categories that are present, as a fraction of 1;
            None if none is.
        ap_low: Lower bound of the confidence interval of ``ap``; None where
            it is not defined or was not asked for.
        ap_high: Upper bound.
    """

    by: str
    name: str
    low: float | None
    high: float | None
    num_categories: int
    num_absent: int
    num_instances: int
    ap: float | None
    ap_low: float | None
    ap_high: float | None


@dataclass(frozen=True)
class ErrorGain:
    """AP50 that categories would gain without one type of error (TIDE).

    Attributes:
        by: As in :class:`Stratum`, or ``'all'``.
        name: Of the part.
        type: ``'Cls'``, ``'Loc'``, ``'Both'``, ``'Dupe'``, ``'Bkg'`` or
            ``'Miss'``, see ``evaluation.error_types``.
        num_errors: Errors of that type: of Cls and Miss, at objects of the
            part, of the others, detections of it.
        gain: As a fraction of 1; None where there is nothing to find.
    """

    by: str
    name: str
    type: str
    num_errors: int
    gain: float | None


@dataclass(frozen=True)
class Confusion:
    """Objects of one frequency that detections call a class of another.

    Attributes:
        true: Frequency bin of the object's class.
        predicted: Of the detection's.
        num: Errors of type Cls.
    """

    true: str
    predicted: str
    num: int


@dataclass(frozen=True)
class Calibration:
    """Whether scores are the precision, at IoU 0.5.

    Attributes:
        by: As in :class:`ErrorGain`.
        name: Of the part.
        error: Expected calibration error: mean distance of score and
            precision over tenths of the score, weighted by detections; None
            without detections.
        scores: Mean score in each tenth; None where it is empty.
        precisions: Share of right detections, likewise.
        nums: Detections.
    """

    by: str
    name: str
    error: float | None
    scores: list[float | None]
    precisions: list[float | None]
    nums: list[int]


@dataclass(frozen=True)
class StrataRecord:
    """Strata of one kind of AP in one evaluation.

    Attributes:
        iou_type: ``'bbox'`` or ``'segm'``.
        protocol: ``'coco'`` or ``'lvis'``.
        num_images: Images of the annotation file.
        num_evaluated_images: Those that the detector was run on.
        num_detections: Detections that took part.
        counts_from: Where the training counts come from; None for nowhere.
        resamples: Draws of images for the intervals.
        confidence: Of the intervals.
        strata: The parts.
        max_dets: Detections that take part at most: of an image and category
            (COCO), of an image (LVIS); None in older files.
        seed: Of the draws of images; None in older files.
        annotations: Digest of what the detections were judged by: images,
            categories, boxes, areas, crowds; None in older files.
        errors: What each type of error costs; None in older files.
        confusions: Between frequency bins; None likewise, and where
            frequencies are not known.
        calibration: Of each part; None in older files.
    """

    iou_type: str
    protocol: str
    num_images: int
    num_evaluated_images: int
    num_detections: int
    counts_from: str | None
    resamples: int
    confidence: float
    strata: list[Stratum]
    max_dets: int | None = None
    seed: int | None = None
    annotations: str | None = None
    errors: list[ErrorGain] | None = None
    confusions: list[Confusion] | None = None
    calibration: list[Calibration] | None = None


@dataclass(frozen=True)
class Evaluation:
    """``WORK_DIR/strata.json``: the last evaluation of a run.

    Attributes:
        iter: Training steps done; None outside of training.
        ann_file: Annotations that it was judged by.
        metrics: As the metric reports them.
        records: One for each kind of AP.
        settings: Options of the metric that change ``metrics`` without
            changing their names; None in older files.
    """

    iter: int | None
    ann_file: str
    metrics: dict[str, float | None]
    records: list[StrataRecord]
    settings: dict[str, int | None] | None = None


@dataclass(frozen=True)
class RunFile(Generic[T]):
    """A JSON file in a work dir.

    Attributes:
        name: Of the file.
        content: Type of its content.
        writer: What writes it.
    """

    name: str
    content: type[T]
    writer: str

    def write(self, path: Path, content: T) -> None:
        """Write the file atomically.

        Args:
            path: The work dir, or the file itself.
            content: What to write; NaN becomes null.

        Raises:
            WriteError: If it cannot be written; what was there is kept.
        """
        path = self._file(path)
        text = json.dumps(finite(_plain(content)), indent=1) + '\n'
        write_text(path, text)

    def read(self, path: Path) -> T | None:
        """Read the file; keys that are not known are left out.

        Args:
            path: The work dir, or the file itself.

        Returns:
            None where there is none.

        Raises:
            ValueError: If it is not what ``writer`` writes.
        """
        path = self._file(path)
        if not path.is_file():
            return None
        remedy = 'Remove it, or train again.'
        text = read_record(path, remedy)
        try:
            with memory_limit():
                return msgspec.json.decode(text, type=self.content)
        except (msgspec.MsgspecError, RecursionError, MemoryError) as error:
            raise ValueError(
                f'{path} must be what {self.writer} writes, got '
                f'{error or "too much"}. {remedy}'
            ) from error

    def _file(self, path: Path) -> Path:
        path = Path(path)
        return path / self.name if path.is_dir() else path


def _plain(content: Any) -> Any:
    if isinstance(content, list):
        return [_plain(item) for item in content]
    return asdict(content)


BACKBONE = RunFile('backbone.json', BackboneRecord, 'FrozenGuardHook')
DRIFT = RunFile('drift.json', list[DriftRecord], 'DriftHook')
NON_FINITE = RunFile('non_finite.json', list[NonFiniteRecord], 'NonFiniteHook')
STEP_COST = RunFile('step_cost.json', list[StepCost], 'StepCostHook')
STRATA = RunFile(
    'strata.json', Evaluation, 'StratifiedLVISMetric or StratifiedCocoMetric'
)
STEPS_IN_TURN = RunFile('steps_in_turn.json', StepsInTurn, 'mmfrozen pair')
