"""Summarize pairs over seeds: mean, standard deviation and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .comparison import Pair

CONFIDENCE = 0.95
#: Smallest significant gain: the variation of AP on LVIS by the seed alone in
#: 5 runs (Li et al., "Exploring Plain Vision Transformer Backbones for Object
#: Detection").
SEED_SPREAD = 0.003


@dataclass(frozen=True)
class SeedGain:
    """One AP over N seeds, as fractions of 1.

    Attributes:
        run: Mean of the runs.
        run_spread: Standard deviation of the runs.
        control: Mean of the controls.
        control_spread: Standard deviation of the controls.
        gain: Mean of the differences in pairs of the same seed.
        low: Lower bound of its interval over seeds (Student's t).
        high: Upper bound.
    """

    run: float
    run_spread: float
    control: float
    control_spread: float
    gain: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0, and the gain is large enough."""
        excludes_zero = self.low > 0 or self.high < 0
        return excludes_zero and abs(self.gain) >= SEED_SPREAD


@dataclass(frozen=True)
class SeedSummary:
    """Summary of pairs of one experiment that differ in their seed.

    Attributes:
        experiment: Name of the config.
        run: State of the runs.
        control: State of the controls.
        seeds: Seeds of the pairs.
        gains: Gains by name of the AP, for APs that all pairs have.
    """

    experiment: str
    run: str
    control: str
    seeds: list[int]
    gains: dict[str, SeedGain]

    @property
    def verdict(self) -> str:
        """The APs that differ, in one line."""
        shown = [ap for ap, gain in self.gains.items() if gain.is_significant]
        found = f'a difference in {", ".join(shown)}' if shown else ''
        return (
            f'{self.experiment}, {self.run} - {self.control}, '
            f'{len(self.seeds)} seeds: {found or "no difference shown"} '
            f'({CONFIDENCE:.0%} interval over seeds; below '
            f'{100 * SEED_SPREAD:.1f} AP no difference counts as shown)'
        )


def summarise_seeds(pairs: Sequence[Pair]) -> list[SeedSummary]:
    """Group and summarize pairs that differ only in their seed.

    Args:
        pairs: Pairs of runs; those of unknown or unequal seeds are left out.

    Returns:
        One summary for each experiment and states of run and control, if
        there are two seeds or more and none is repeated.
    """
    groups: dict[tuple[str, str, str], dict[int, Pair]] = {}
    repeated = set()
    for pair in pairs:
        key = (pair.run.experiment, pair.run.state, pair.control.state)
        seed = pair.run.seed
        if seed is None or seed != pair.control.seed:
            continue
        if groups.setdefault(key, {}).setdefault(seed, pair) is not pair:
            repeated.add(key)  # the pairing is ambiguous
    return [
        SeedSummary(*key, sorted(group), _gains(list(group.values())))
        for key, group in groups.items()
        if len(group) > 1 and key not in repeated
    ]


def _gains(pairs: Sequence[Pair]) -> dict[str, SeedGain]:
    names = [
        name
        for name in pairs[0].run.aps
        if all(name in x.aps for p in pairs for x in (p.run, p.control))
    ]
    return {
        name: paired_gain(
            [pair.run.aps[name] for pair in pairs],
            [pair.control.aps[name] for pair in pairs],
        )
        for name in names
    }


def paired_gain(run: Sequence[float], control: Sequence[float]) -> SeedGain:
    """Compare one AP of runs and controls, in pairs of the same seed.

    Args:
        run: AP of two runs or more, as fractions of 1.
        control: AP of their controls, in the same order.
    """
    gaps = np.subtract(run, control)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1)
    half *= gaps.std(ddof=1) / np.sqrt(len(gaps))
    gain = float(gaps.mean())
    return SeedGain(
        float(np.mean(run)),
        float(np.std(run, ddof=1)),
        float(np.mean(control)),
        float(np.std(control, ddof=1)),
        gain,
        gain - float(half),
        gain + float(half),
    )
