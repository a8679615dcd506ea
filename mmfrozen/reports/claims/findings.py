"""This module judges each claim by the recorded runs, with rules that were
fixed before the first run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from ..runs.seeds import SeedGain, paired_gain
from .cells import CAPACITIES, SEEDS, STEPS, Cell
from .record import ClaimRun

#: Number of seeds that a verdict requires.
NUM_SEEDS = len(SEEDS)


@dataclass(frozen=True)
class Term:
    """One summand of a question: a figure of a run, with its sign.

    Attributes:
        variant: Variant of the run's cell.
        state: State of the backbone in the cell.
        steps: Number of training steps of the cell.
        figure: Name of an AP, or a key of ``OTHERS``.
        sign: +1 or -1.
    """

    variant: str
    state: str
    steps: int = STEPS
    figure: str = 'box AP'
    sign: int = 1


#: Figures other than AP. Costs are logarithms, so that a difference is the
#: logarithm of a ratio.
OTHERS = {
    'drift': lambda run: run.drift,
    'FLOPs': lambda run: math.log(run.flops),
    'kept bytes': lambda run: math.log(run.kept_bytes),
    'step time': lambda run: math.log(run.step_seconds),
}


@dataclass(frozen=True)
class Question:
    """Sum of figures whose sign a claim predicts.

    Attributes:
        claim: Number of the claim.
        text: The prediction as text.
        predicted: Predicted sign, +1 or -1.
        terms: Summands, which are added up for each seed.
    """

    claim: int
    text: str
    predicted: int
    terms: tuple[Term, ...]

    @property
    def figure(self) -> str:
        """Figure of the first term."""
        return self.terms[0].figure

    @property
    def is_pair(self) -> bool:
        """Whether it compares the AP of a frozen and a fine-tuned run.

        For these pairs of one variant, intervals over images are recorded.
        """
        return (
            self.figure not in OTHERS
            and [t.state for t in self.terms] == ['frozen', 'finetuned']
            and self.terms[0].variant == self.terms[1].variant
        )


@dataclass(frozen=True)
class Finding:
    """Result of a question according to the records.

    Attributes:
        question: The question.
        seeds: Seeds for which all runs are recorded.
        gain: Mean of the sum with its interval over seeds; None with fewer
            than two seeds.
        images: Interval over images, lower and upper end averaged over seeds;
            None where it is not known.
    """

    question: Question
    seeds: list[int]
    gain: SeedGain | None
    images: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """Verdict by the rules of docs/results.md, as text."""
        if not self.seeds:
            return 'not run'
        if self.gain is None or len(self.seeds) < NUM_SEEDS:
            return f'{len(self.seeds)} of {NUM_SEEDS} seeds'
        intervals = [(self.gain.low, self.gain.high)]
        if self.question.is_pair:
            if self.images is None:
                return 'cannot say'
            intervals.append(self.images)
        for sign, word in ((1, 'holds'), (-1, 'does not hold')):
            side = sign * self.question.predicted
            if all(min(side * a, side * b) > 0 for a, b in intervals):
                return word
        return 'cannot say'


def _gain(
    variant: str, steps: int = STEPS, figure: str = 'box AP', sign: int = 1
) -> tuple[Term, ...]:
    """Return the terms of a frozen run's figure minus the fine-tuned run's."""
    return (
        Term(variant, 'frozen', steps, figure, sign),
        Term(variant, 'finetuned', steps, figure, -sign),
    )


def _less(variant: str, other: str, state: str) -> tuple[Term, ...]:
    return Term(variant, state), Term(other, state, sign=-1)


QUESTIONS = (
    Question(1, 'with FPN the frozen backbone loses', -1, _gain('fpn')),
    Question(
        1,
        'frozen gains more with wide heads than with FPN',
        1,
        (*_gain('wide-heads'), *_gain('fpn', sign=-1)),
    ),
    Question(1, 'with wide heads it wins', 1, _gain('wide-heads')),
    Question(
        1,
        'with NAS-FPN it beats training from scratch',
        1,
        (Term('nas-fpn', 'frozen'), Term('nas-fpn', 'scratch', sign=-1)),
    ),
    *(
        Question(
            2,
            f'less {what}, {name}',
            -1,
            _gain(name, figure=what),
        )
        for name in CAPACITIES
        for what in ('FLOPs', 'kept bytes', 'step time')
    ),
    Question(
        3,
        'it gains more on rare classes than on frequent ones',
        1,
        (
            *_gain('nas-fpn', figure='box APr'),
            *_gain('nas-fpn', figure='box APf', sign=-1),
        ),
    ),
    Question(
        4,
        'a schedule 4 times as long moves the fine-tuned backbone further',
        1,
        (
            Term('nas-fpn', 'finetuned', 2 * STEPS, 'drift'),
            Term('nas-fpn', 'finetuned', STEPS // 2, 'drift', -1),
        ),
    ),
    Question(
        4,
        'frozen gains more after it than after the short one',
        1,
        (
            *_gain('nas-fpn', 2 * STEPS),
            *_gain('nas-fpn', STEPS // 2, sign=-1),
        ),
    ),
    *(
        Question(
            5,
            f'{better} instead of {worse} brings more when frozen',
            1,
            (*_gain(better), *_gain(worse, sign=-1)),
        )
        for better, worse in (
            ('nas-fpn', 'noise-0.001'),
            ('nas-fpn', 'noise-0.002'),
            ('lite1', 'nas-fpn'),
            ('lite2', 'nas-fpn'),
        )
    ),
    *(
        Question(
            6, f'{name} helps when frozen', 1, _less(name, 'nas-fpn', 'frozen')
        )
        for name in ('lsj', 'copy-paste')
    ),
    Question(
        7,
        'adapters beat the frozen backbone',
        1,
        _less('adapters', 'nas-fpn', 'frozen'),
    ),
)


def answer(question: Question, records: Mapping[Cell, ClaimRun]) -> Finding:
    """Answer a question from the records."""
    by_seed = {}
    for seed in SEEDS:
        cells = [
            Cell(t.variant, t.state, t.steps, seed) for t in question.terms
        ]
        if all(cell in records for cell in cells):
            by_seed[seed] = sum(
                term.sign * read_figure(records[cell], term.figure)
                for term, cell in zip(question.terms, cells, strict=True)
            )
    values = list(by_seed.values())
    gain = None
    if len(values) > 1:
        gain = paired_gain(values, [0.0] * len(values))
    images = None
    if question.is_pair:
        images = _over_images(question, list(by_seed), records)
    return Finding(question, list(by_seed), gain, images)


def read_figure(run: ClaimRun, figure: str) -> float:
    """Return a figure of a record; NaN where it is not defined."""
    if figure in OTHERS:
        return OTHERS[figure](run)
    return run.last.get(figure, math.nan)


def _over_images(
    question: Question, seeds: list[int], records: Mapping[Cell, ClaimRun]
) -> tuple[float, float] | None:
    control = question.terms[1]
    found = [
        (gain.low, gain.high)
        for seed in seeds
        for gain in records[
            Cell(control.variant, control.state, control.steps, seed)
        ].over_images
        if gain.name == question.figure and gain.low is not None
    ]
    if len(found) < len(seeds) or not found:
        return None
    lows, highs = zip(*found, strict=True)
    return fmean(lows), fmean(highs)
