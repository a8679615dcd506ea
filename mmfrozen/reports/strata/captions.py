"""Write the captions of the charts, and notes on the method."""

from __future__ import annotations

from pathlib import Path

from ...evaluation.bootstrap import MIN_IMAGES
from ...evaluation.error_types import TYPES
from .curve import num_outside
from .record import FREQUENCIES, StrataGain
from .text import ap_name, format_estimate


def summary_line(gain: StrataGain) -> str:
    """Summarize AP in a sentence: all classes, then rare, common, frequent."""
    rows = [*gain.family('all'), *gain.family('frequency')]
    parts = [
        f'{FREQUENCIES.get(row.label, row.label)} '
        f'{format_estimate(row.shown, gain)}'
        for row in rows
        if row.num_classes
    ]
    head = f'Mean {ap_name(gain)}'
    if gain.control is not None:
        head = (
            f'Mean difference in {ap_name(gain)}, run \N{MINUS SIGN} control'
        )
    unit = 'points' if gain.control is not None else '%'
    return f'{head}, {unit}: {"; ".join(parts)}.'


def _source(gain: StrataGain) -> str:
    """Return the source of the training counts, without folders."""
    stated, _, file = gain.train_ann.rpartition(' in ')
    name = Path(file).name
    return f'as stated in {name}' if stated else f'counted in {name}'


def curve_caption(gain: StrataGain) -> str:
    """Return the caption of the chart by training annotations."""
    what = 'AP of the run'
    if gain.control is not None:
        what = 'AP of the run minus AP of its control'
    text = (
        f'Each dot is a class: {what}, against the number of its training '
        f'annotations ({_source(gain)}; hover over a dot for its name). '
    )
    outside = num_outside(gain)
    if outside:
        text += (
            f'{outside} classes lie beyond the axis and are triangles at its '
            'edge. '
        )
    if gain.running_mean is not None:
        text += (
            'The line is the mean over classes of about the same number of '
            'annotations (Gaussian weights in log10, standard deviation '
            f'{gain.running_mean.decades:g} decades); the lower panel shows '
            'it at its own scale'
        )
        text += (
            f'; grey is its {gain.confidence:.0%} bootstrap interval. '
            if gain.running_mean.low
            else '. '
        )
    else:
        text += 'Too few classes for a running mean. '
    return text + (
        'A class with few instances in the evaluated images scatters widely '
        'by chance: judge by the mean, not by single dots.'
    )


def bins_caption(gain: StrataGain) -> str:
    """Return the caption of the chart by bin."""
    caption = (
        'Mean over the classes of each bin that have an instance to find. '
        'Frequency groups are those of LVIS, with bounds at 10 and 100 '
        'training images. Sizes are by area: small up to 32 x 32 pixels, '
        'large from 96 x 96.'
    )
    if gain.num_resamples:
        caption += f' Whiskers are {gain.confidence:.0%} intervals.'
    return caption


def errors_caption() -> str:
    """Return the caption of the chart of errors, which explains the types."""
    types = '; '.join(f'{name}: {text}' for name, text in TYPES.items())
    return (
        'AP at IoU 0.5 that the classes would gain if all errors of one type '
        f'were corrected (TIDE, Bolya et al. 2020). {types}. Gains of several '
        'types do not add up. Lower is better. Errors are counted for the '
        'class of the object (Cls, Miss) or of the detection.'
    )


def kinds(gain: StrataGain) -> tuple[str, str]:
    """Return the names of the two ends of the ranking."""
    if gain.control is None:
        return 'highest AP', 'lowest AP'
    return 'gained most', 'lost most'


def ranking_caption(gain: StrataGain) -> str:
    """Return a note on which classes are ranked."""
    known = [row for row in gain.classes if row.shown.value is not None]
    ranked = sum(row.val_images >= gain.min_images for row in known)
    return (
        f'The ranking covers the {ranked:,} of {len(known):,} classes in at '
        f'least {gain.min_images} of the evaluated images (--min-images). The '
        'extremes of many noisy figures are partly due to chance.'
    )


def examples_caption(gain: StrataGain) -> str:
    """Return the caption of the example images."""
    where = 'the object on which the two runs differ most in that direction'
    if gain.control is None:
        where = 'the object that was detected best (lowest AP: worst)'
    return (
        f'Examples show {where} (score x IoU of its best detection). White: '
        'annotated; coloured: up to three detections of the class there, '
        'highest scores first. They are extremes, not typical images.'
    )


def method(gain: StrataGain) -> list[str]:
    """Return notes on how the figures were measured, and their limits."""
    protocol = (
        'LVIS protocol: a class is judged only in images where it is '
        'annotated or known to be absent; {} detections per image'
        if gain.protocol == 'lvis'
        else 'COCO protocol: every class is judged in every image; {} '
        'detections per image and class'
    ).format(
        f'at most {gain.max_dets}' if gain.max_dets else 'unknown limit of'
    )
    items = [
        f'AP: mean over the IoU thresholds .50 to .95, in %. {protocol}.',
        f'Read: {", ".join(gain.sources)}. Evaluated on {gain.ann}; bins '
        f'counted in {gain.train_ann}.',
        'A class without an instance in the evaluated images has no AP: it is '
        'counted as absent, and is not part of the mean.',
    ]
    if gain.num_resamples:
        items += [
            f'Intervals: {gain.num_resamples:,} times, {gain.num_images:,} '
            'images were drawn with replacement, the same for both runs; '
            f'{gain.confidence:.0%} intervals by Student, with the standard '
            'error of these draws and a correction for classes in few images. '
            f'What is in fewer than {MIN_IMAGES} images has no interval.',
            'They say how the figures vary with the images, not with the '
            'seed of training: for that, train both more than once.',
            f'{1 - gain.confidence:.0%} of such intervals do not contain the '
            'true value: among hundreds of classes some exclude zero by '
            'chance.',
        ]
    return items
