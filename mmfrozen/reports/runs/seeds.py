"""Several seeds of one experiment and its control: mean, spread, interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .comparison import Pair

CONFIDENCE = 0.95
#: AP on LVIS varies by as much with the seed alone: Li et al., "Exploring
#: Plain Vision Transformer Backbones for Object Detection", 5 runs.
SEED_SPREAD = 0.003


@dataclass(frozen=True)
class SeedGain:
    """One AP over N seeds, as fractions of 1.

    Attributes:
        run: Mean of the runs.
        run_spread: Standard deviation of the runs.
        control: Mean of the controls.
        control_spread: Their standard deviation.
        gain: Mean of the differences in pairs of the same seed.
        low: Lower end of its interval over seeds (Student's t).
        high: Upper end.
    """

    run: float
    run_spread: float
    control: float
    control_spread: float
    gain: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether there is a difference that seeds alone do not explain."""
        excludes_zero = self.low > 0 or self.high < 0
        return excludes_zero and abs(self.gain) >= SEED_SPREAD


@dataclass(frozen=True)
class SeedSummary:
    """Pairs of one experiment that differ in their seed.

    Attributes:
        experiment: Name of the config.
        run: State of the runs.
        control: State of the controls.
        seeds: Of the pairs.
        gains: By AP that all of them have.
    """

    experiment: str
    run: str
    control: str
    seeds: list[int]
    gains: dict[str, SeedGain]

    @property
    def verdict(self) -> str:
        """Which APs differ, in one line."""
        shown = [ap for ap, gain in self.gains.items() if gain.is_shown]
        found = f'a difference in {", ".join(shown)}' if shown else ''
        return (
            f'{self.experiment}, {self.run} - {self.control}, '
            f'{len(self.seeds)} seeds: {found or "no difference shown"} '
            f'({CONFIDENCE:.0%} interval over seeds; below '
            f'{100 * SEED_SPREAD:.1f} AP nothing is taken for shown)'
        )


def over_seeds(pairs: Sequence[Pair]) -> list[SeedSummary]:
    """Put pairs together that differ in their seed only.

    Args:
        pairs: A run and a control of the same seed each.

    Returns:
        One for each experiment and state of the control that was trained
        with two seeds or more.
    """
    groups: dict[tuple[str, str, str], dict[int, Pair]] = {}
    repeated = set()
    for pair in pairs:
        key = (pair.run.experiment, pair.run.state, pair.control.state)
        seed = pair.run.seed
        if seed is None or seed != pair.control.seed:
            continue
        if groups.setdefault(key, {}).setdefault(seed, pair) is not pair:
            repeated.add(key)  # which of them belong together is not known
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
        run: Of two runs or more, as fractions of 1.
        control: Of their controls, in the same order.
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
