"""Define the dataclasses of a comparison by strata, also used for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...run_files import Calibration, Confusion

#: LVIS's groups by the number of training images of a class.
FREQUENCIES = {'r': 'rare', 'c': 'common', 'f': 'frequent'}


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval.

    Attributes:
        value: Value on all images; None where it is not defined.
        low: Lower bound; None without an interval.
        high: Upper bound; None without an interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether there is an interval that excludes zero."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ClassGain:
    """One class in both runs, AP as fractions of 1.

    Attributes:
        category_id: Category id in the annotations.
        name: Category name in the annotations.
        frequency: ``'r'``, ``'c'`` or ``'f'``.
        train_annotations: Number of training annotations.
        train_images: Number of training images with the class.
        val_images: Number of evaluated images with the class.
        val_instances: Number of instances in them, without crowds and ignored
            ones.
        ap: AP of the run; its value is None if the class is absent.
        control: AP of the control; None without one.
        gain: ``ap - control`` on the same resamples; None without a control.
    """

    category_id: int
    name: str
    frequency: str
    train_annotations: int
    train_images: int
    val_images: int
    val_instances: int
    ap: Estimate
    control: Estimate | None
    gain: Estimate | None

    @property
    def shown(self) -> Estimate:
        """The gain, or the AP of a run without a control."""
        return self.gain if self.gain is not None else self.ap


@dataclass(frozen=True)
class BinGain:
    """The classes of one bin in both runs, AP as fractions of 1.

    Attributes:
        family: Criterion of the bin: ``'all'``, ``'frequency'``,
            ``'training_annotations'``, ``'training_images'`` or ``'size'``.
        label: Name of the bin, such as ``'r'`` or ``'10-31'``.
        num_classes: Number of averaged classes.
        num_absent: Number of classes without an instance in the evaluated
            images, which are not averaged.
        num_instances: Number of instances of the averaged classes.
        ap: Mean AP of the run.
        control: Mean AP of the control; None without one.
        gain: Mean difference; None without a control.
    """

    family: str
    label: str
    num_classes: int
    num_absent: int
    num_instances: int
    ap: Estimate
    control: Estimate | None
    gain: Estimate | None

    @property
    def shown(self) -> Estimate:
        """The gain, or the AP of a run without a control."""
        return self.gain if self.gain is not None else self.ap


@dataclass(frozen=True)
class ErrorCost:
    """AP50 that one type of error costs the classes of a bin, in both runs.

    Attributes:
        type: Type of error, as in :class:`~mmfrozen.run_files.ErrorGain`.
        num_errors: Number of errors of the run.
        num_control_errors: Number of errors of the control; None without one.
        bin: ``ap`` is the AP50 that the run would gain without these errors,
            ``control`` the same of the control, ``gain`` the difference,
            which is negative where the errors cost the run less.
    """

    type: str
    num_errors: int
    num_control_errors: int | None
    bin: BinGain


@dataclass(frozen=True)
class RunningMean:
    """Mean over classes of about the same number of training annotations.

    Attributes:
        annotations: (P,) numbers of training annotations.
        value: (P,) means weighted by a Gaussian in log10 of the number.
        low: (P,) lower bounds of its interval; empty without one.
        high: (P,) upper bounds, likewise.
        decades: Standard deviation of the Gaussian, in decades.
    """

    annotations: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    decades: float


@dataclass(frozen=True)
class StrataGain:
    """Comparison of a run with its control, by class and by bin.

    Attributes:
        run: Name of the run.
        control: Name of the control; None without one.
        sources: Result files of both.
        ann: Annotations that both were evaluated on.
        train_ann: Source of the training counts.
        iou_type: ``'bbox'`` or ``'segm'``.
        protocol: ``'lvis'`` or ``'coco'``.
        max_dets: Maximum number of detections per image (LVIS) or per image
            and class (COCO); None if not known.
        num_images: Number of images in the annotations.
        num_resamples: Number of bootstrap resamples of the images; 0 without
            intervals.
        confidence: Confidence level of the intervals.
        seed: Seed of the bootstrap.
        min_images: Minimum number of images with a class that is ranked
            among those that gained or lost most.
        notes: Warnings about the inputs.
        bins: Bins, starting with ``'all'``.
        classes: Classes in the order of their ids.
        running_mean: Running mean of the gains, or of the APs without a
            control; None with too few classes.
        errors: Costs of each type of error by bin; empty where a run has no
            error types.
        confusions: Confusions of the run, then of the control; empty
            likewise.
        calibration: Calibration of the run, then of the control; empty
            likewise.
    """

    run: str
    control: str | None
    sources: tuple[str, ...]
    ann: str
    train_ann: str
    iou_type: str
    protocol: str
    max_dets: int | None
    num_images: int
    num_resamples: int
    confidence: float
    seed: int
    min_images: int
    notes: tuple[str, ...]
    bins: tuple[BinGain, ...]
    classes: tuple[ClassGain, ...]
    running_mean: RunningMean | None
    errors: tuple[ErrorCost, ...] = ()
    confusions: tuple[tuple[Confusion, ...], ...] = ()
    calibration: tuple[tuple[Calibration, ...], ...] = ()

    def family(self, name: str) -> Iterator[BinGain]:
        """Return the bins of one family, in order."""
        return (row for row in self.bins if row.family == name)

    def most(self, num: int = 10) -> tuple[list[ClassGain], list[ClassGain]]:
        """Return the classes that gained most and those that lost most.

        Args:
            num: Maximum number of classes of each kind.

        Returns:
            The largest gain first, and the largest loss first. Without a
            control: the highest AP first, and the lowest.
        """
        rows = [r for r in self.classes if r.val_images >= self.min_images]
        # among equal classes, prefer those with more instances
        rows.sort(key=lambda row: -row.val_instances)
        known = [(r.shown.value, r) for r in rows if r.shown.value is not None]
        up = sorted(known, key=lambda pair: -pair[0])
        down = sorted(known, key=lambda pair: pair[0])
        if self.control is not None:
            up = [(value, row) for value, row in up if value > 0]
            down = [(value, row) for value, row in down if value < 0]
        else:
            down = down[: max(0, len(known) - num)]
        return [r for _, r in up[:num]], [r for _, r in down[:num]]
