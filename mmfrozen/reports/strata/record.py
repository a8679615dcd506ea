"""Dataclasses of a comparison by strata, and their JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...run_files import Calibration, Confusion

#: LVIS's groups by the number of training images of a class.
FREQUENCIES = {'r': 'rare', 'c': 'common', 'f': 'frequent'}


@dataclass(frozen=True)
class Estimate:
    """A figure and its bootstrap interval.

    Attributes:
        value: On all images; None where nothing was to be measured.
        low: Lower end; None where there is no interval. ``high`` likewise.
        high: Upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether there is an interval and zero is outside of it."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ClassGain:
    """One class in both runs, AP as fractions of 1.

    Attributes:
        category_id: As in the annotations.
        name: Likewise.
        frequency: ``'r'``, ``'c'`` or ``'f'``.
        train_annotations: Its annotations in the training set.
        train_images: Training images that hold it.
        val_images: Images that hold it, of those evaluated.
        val_instances: Its instances in them that count (no crowds).
        ap: Of the run; its value is None if the class is absent.
        control: Of the control; None without one.
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
        family: What the bin divides by: ``'all'``, ``'frequency'``,
            ``'training_annotations'``, ``'training_images'`` or ``'size'``.
        label: Its bounds in words.
        num_classes: Classes that are averaged.
        num_absent: Classes of the bin without an instance in the evaluated
            images, which are not.
        num_instances: Instances of the classes that are averaged.
        ap: Mean AP of the run.
        control: Of the control; None without one.
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
        type: As in :class:`~mmfrozen.run_files.ErrorGain`.
        num_errors: Of the run.
        num_control_errors: Of the control; None without one.
        bin: Its ``ap`` is the AP50 that the run would gain without these
            errors, its ``control`` that of the control, its ``gain`` the
            difference: negative where the run loses less.
    """

    type: str
    num_errors: int
    num_control_errors: int | None
    bin: BinGain


@dataclass(frozen=True)
class RunningMean:
    """Mean over classes of about the same number of training annotations.

    Attributes:
        annotations: Where it is taken, (P,).
        value: Mean weighted by a Gaussian in log10 of the number.
        low: Lower ends of its bootstrap interval; empty without one.
        high: Upper ends.
        decades: Standard deviation of that Gaussian, in decades.
    """

    annotations: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    decades: float


@dataclass(frozen=True)
class StrataGain:
    """A run beside its control, by class and by bin.

    Attributes:
        run: Name of the run.
        control: Name of the control; None without one.
        sources: Files that were read of them.
        ann: Annotations that both were evaluated on.
        train_ann: Annotations that the bins were counted in.
        iou_type: ``'bbox'`` or ``'segm'``.
        protocol: ``'lvis'`` or ``'coco'``.
        max_dets: Detections that took part at most, of an image (LVIS) or
            of an image and class (COCO); None if not known.
        num_images: Images that were evaluated.
        num_resamples: Bootstrap resamples of those images; 0 where there
            are no intervals.
        confidence: Of the intervals.
        seed: Of the resamples.
        min_images: Images that a class must be in to be among those that
            gained or lost most.
        notes: What a reader has to know of these inputs.
        bins: ``'all'`` first.
        classes: In the order of the annotations.
        running_mean: Of the gains, or of the APs without a control; None
            with fewer than three classes.
        errors: What each type of error costs, by bin; empty where a run
            does not say.
        confusions: Of the run, then of the control; empty likewise.
        calibration: Likewise.
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
        """Bins of one family, in order."""
        return (row for row in self.bins if row.family == name)

    def most(self, num: int = 10) -> tuple[list[ClassGain], list[ClassGain]]:
        """Classes that gained most and those that lost most.

        Args:
            num: Classes of each kind at most.

        Returns:
            The largest gain first, and the largest loss first. Without a
            control: the highest AP first, and the lowest.
        """
        rows = [r for r in self.classes if r.val_images >= self.min_images]
        # of equals the one with more instances says more
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
