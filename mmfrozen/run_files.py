"""Files that runs write to a work dir: name, content, reader and writer."""

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


def replace_non_finite(value: Any) -> Any:
    """Replace floats that JSON cannot hold (NaN, infinity) with None."""
    if isinstance(value, dict):
        return {key: replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_non_finite(item) for item in value]
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
        """Number of parameters that do not require grad."""
        return self.total - self.trainable


@dataclass(frozen=True)
class BackboneRecord:
    """The state of a run's backbone: ``WORK_DIR/backbone.json``.

    Attributes:
        state: The state that FrozenGuardHook is configured with:
            ``'frozen'``, ``'partial'``, ``'finetuned'``, ``'scratch'`` or
            ``'thawed'``.
        backbone_type: Class of the backbone.
        classifier: Checkpoint that it was loaded from, or the call of a
            class that loads its own weights, such as ``Hub(model='vit_b')``.
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
    """Summary of a run, read from its work dir.

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
    """Report on which part of a module is trained.

    Attributes:
        name: Name of the module, such as ``roi_head.bbox_head``.
        status: ``'frozen'``: no parameter trains and no running statistic is
            updated; ``'trained'``: all parameters train; ``'partial'``: some
            do, or none does but statistics are updated; ``'empty'``: it has
            no parameters.
        parameters: Counts of its parameters.
        moving_norms: Number of its layers whose running statistics are
            updated in training.
    """

    name: str
    status: str
    parameters: ParameterCounts
    moving_norms: int


@dataclass(frozen=True)
class StageDrift:
    """Drift of the tensors of one stage from their reference.

    Attributes:
        num_tensors: Number of parameters and buffers.
        num_changed: Number of them that are not bitwise equal.
        relative_l2: L2 norm of the parameters' change, divided by their norm
            before; None where it is not defined.
        cosine: Cosine similarity of the parameters before and after; None
            where it is not defined.
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
        iter: Number of training steps done.
        epoch: Number of epochs done.
        reference: Digest of the weights that the drift is measured from.
        stages: Drift by component, such as ``'backbone.stage 1'``, as in
            :class:`StepFlops`, in order of the state dict; ``all`` is the
            last. Earlier releases wrote ``'layer1'``.
    """

    iter: int
    epoch: int
    reference: str
    stages: dict[str, StageDrift]


@dataclass(frozen=True)
class NonFiniteRecord:
    """One rank's part of an entry of ``WORK_DIR/non_finite.json``.

    Attributes:
        iter: The training step, counted from 1.
        rank: Rank of the process.
        found_in: What is not finite before the first trainable layer:
            ``'boxes'``, ``'pixels'``, ``'features'`` or
            ``'features in float16'``; ``'overflow'`` if gradient scaling
            failed; ``''`` if none of this was found.
        images: Id and path of the images of the batch.
        faulty_images: Those for which ``found_in`` is not finite.
        losses: Losses by name; null where not finite.
        gradients: Names of parameters whose gradients are not finite, roughly
            in order of the backward pass; empty if a loss is not finite.
        learning_rate: Learning rate of the first parameter group.
        loss_scale: Scale of the gradient scaler; None without one.
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
    """Comparison of a checkpoint's backbone with its classifier.

    Attributes:
        checkpoint: Checkpoint of the trained detector.
        classifier: The weights that it was compared with.
        changed: Names of the tensors that are not bitwise equal.
        stages: Drift by stage, as in :class:`DriftRecord`.
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
        median: Second quartile.
        upper: Third quartile.
        num: Number of values in the sample.
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
        iter: The training step, counted from 1.
        batch_shape: Number, height and width of its images; None if unknown.
        components: FLOPs by component.
        uncounted: Number of calls of each operator without a formula.
    """

    iter: int
    batch_shape: tuple[int, int, int] | None
    components: dict[str, Flops]
    uncounted: dict[str, int]


@dataclass(frozen=True)
class StepMemory:
    """Peak memory of one process over training steps, in bytes.

    Attributes:
        cuda_allocated_peak_bytes: Allocated by the CUDA caching allocator;
            None on other devices.
        cuda_reserved_peak_bytes: Reserved by it from the driver; None on
            other devices.
        resident_peak_bytes: Largest resident set at the end of a forward
            pass, when all tensors saved for backward are alive.
        process_peak_bytes: Largest resident set since the process began,
            loading and validation included; None where the system does not
            report it.
    """

    cuda_allocated_peak_bytes: int | None
    cuda_reserved_peak_bytes: int | None
    resident_peak_bytes: int | None
    process_peak_bytes: int | None


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step: an entry of ``WORK_DIR/step_cost.json``.

    A step is one iteration of the training loop in the main process. Each
    start of the run adds an entry, so that a resumed run never mixes the
    measurements of two machines.

    Attributes:
        config: Name of the config, without ``.py``.
        begin_iter: Training steps done when this start began.
        end_iter: Training steps done when this was written.
        iters_per_epoch: Training steps that make an epoch.
        batch_shape: Most frequent shape: images per process, height, width.
        num_batch_shapes: Number of different shapes.
        dtype: Dtype of the parameters, and of autocast where it is on.
        device: Name of the device.
        world_size: Number of processes that train together.
        accumulative_counts: Training steps per update of the optimizer.
        seed: Seed of the run.
        versions: Versions of the packages that matter.
        timer: ``'CPU clock'`` or ``'CUDA events'``.
        num_steps: Number of steps that were timed.
        seconds: Time by part: ``data``, ``backbone`` (its forward pass),
            ``forward`` (the rest of it), ``backward``, ``optimizer`` (over
            the steps that updated), ``hooks`` (the remaining time), and
            ``step``, the sum of all; empty before the first step was timed.
        memory: Peak memory.
        joules_per_step: Energy of the main process's GPU, including other
            processes on it; None where it cannot be measured.
        flops: FLOPs of one step; None where they were not counted.
        notes: Reason why a value is missing, by name of the field.
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
    """Step times of a run and its control, measured alternately.

    Attributes:
        run: Seconds per step of the run, without waiting for data.
        control: Seconds per step of the control, likewise.
        ratio: Ratio of the run's to the control's time, for pairs of steps.
        engine: Description by FrozenEngine; None where it was not used.
        images: Number of images in a batch.
        threads: Number of torch's threads.
        device: Device on which the steps ran.
        torch: Version of torch.
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
    """AP of some categories, or of the objects of one size.

    Attributes:
        by: Criterion of the strata: ``'frequency'``,
            ``'training_annotations'``, ``'training_images'``, ``'size'``
            or ``'category'``.
        name: Name of the stratum, such as ``'r'``, ``'10-31'``, ``'small'``.
        low: Least count of training images or annotations, or least area in
            square pixels, inclusive; None without a bound.
        high: Greatest, inclusive; None without a bound.
        num_categories: Number of categories in the stratum.
        num_absent: Number of them without ground truth, and so without AP.
        num_instances: Number of ground-truth instances, without crowds and
            ignored ones.
        ap: Mean AP of the categories with ground truth, as a fraction of 1;
            None if there are none.
        ap_low: Lower bound of the confidence interval of ``ap``; None where
            it is not defined or was not computed.
        ap_high: Upper bound, likewise.
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
    """AP50 that a stratum would gain without one type of error (TIDE).

    Attributes:
        by: As in :class:`Stratum`, or ``'all'``.
        name: Name of the stratum.
        type: ``'Cls'``, ``'Loc'``, ``'Both'``, ``'Dupe'``, ``'Bkg'`` or
            ``'Miss'``, see ``evaluation.error_types``.
        num_errors: Number of errors of that type. Cls and Miss count in the
            stratum of the object, the others in that of the detection.
        gain: Gain as a fraction of 1; None without ground truth.
    """

    by: str
    name: str
    type: str
    num_errors: int
    gain: float | None


@dataclass(frozen=True)
class Confusion:
    """Number of confusions between classes of two frequency bins.

    Attributes:
        true: Frequency bin of the object's class.
        predicted: Frequency bin of the detection's class.
        num: Number of errors of type Cls.
    """

    true: str
    predicted: str
    num: int


@dataclass(frozen=True)
class Calibration:
    """Calibration of the scores: how well they match precision at IoU 0.5.

    Attributes:
        by: As in :class:`ErrorGain`.
        name: Name of the stratum.
        error: Expected calibration error: mean distance of score and
            precision over tenths of the score, weighted by detections; None
            without detections.
        scores: Mean score in each tenth; None where it is empty.
        precisions: Share of true positives in each tenth, likewise.
        nums: Number of detections in each tenth.
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
        num_images: Number of images in the annotation file.
        num_evaluated_images: Number of images the detector was run on.
        num_detections: Number of evaluated detections.
        counts_from: Source of the training counts; None without them.
        resamples: Number of bootstrap resamples of the images.
        confidence: Confidence level of the intervals.
        strata: AP of each stratum.
        max_dets: Maximum number of detections: per image and category
            (COCO), per image (LVIS); None in older files.
        seed: Seed of the bootstrap; None in older files.
        annotations: Digest of the ground truth: images, categories, boxes,
            areas, crowds; None in older files.
        errors: AP50 lost to each type of error; None in older files.
        confusions: Confusions between frequency bins; None in older files
            and where frequencies are not known.
        calibration: Calibration of each stratum; None in older files.
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
        iter: Number of training steps done; None outside of training.
        ann_file: Annotation file of the evaluated images.
        metrics: Metrics by name, as the metric reports them.
        records: One record for each kind of AP.
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
        name: Name of the file.
        content: Type of its content.
        writer: The hook, metric or command that writes it, for messages.
    """

    name: str
    content: type[T]
    writer: str

    def write(self, path: Path, content: T) -> None:
        """Write the file atomically.

        Args:
            path: The work dir, or the file itself.
            content: Content of the file; NaN becomes null.

        Raises:
            WriteError: If it cannot be written; the old content is kept.
        """
        path = self._file(path)
        text = json.dumps(replace_non_finite(_plain(content)), indent=1) + '\n'
        write_text(path, text)

    def read(self, path: Path) -> T | None:
        """Read the file; unknown keys are ignored.

        Args:
            path: The work dir, or the file itself.

        Returns:
            The content; None if there is no file.

        Raises:
            ValueError: If the file does not have content of this type.
        """
        path = self._file(path)
        if not path.is_file():
            return None
        remedy = f'Remove it; {self.writer} writes it again.'
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
