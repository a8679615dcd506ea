"""Records of runs that were never made."""

from dataclasses import replace

from mmfrozen.reports.claims.cells import STATES, Cell, tuning_cells
from mmfrozen.reports.claims.record import Bin, ClaimRun, ImageGain
from mmfrozen.run_files import ParameterCounts

#: Box AP on the held-out split, by state, in order of the rates.
TUNING = {
    'frozen': (0.1, 0.2, 0.15),
    'finetuned': (0.2, 0.1, 0.15),
    'scratch': (0.0, 0.01, 0.02),
}
CHOSEN = {'frozen': 1e-3, 'finetuned': 5e-4, 'scratch': 2e-3}

RUN = ClaimRun(
    cell='',
    config='frozen/mask_rcnn_lite0_mini-lvis',
    options=[],
    rate=0.0,
    seed=1,
    date='2026-11-30',
    revision='abc',
    versions={'torch': '2.14.1'},
    device='a CPU, 1 threads',
    last={},
    best={},
    best_step=350,
    bins=[],
    step_seconds=1.0,
    train_seconds=350.0,
    flops=40_000_000_000,
    kept_bytes=2**28,
    peak_bytes=2**29,
    parameters=ParameterCounts(10, 5),
    drift=0.0,
    over_images=[],
)


def make(cell, ap=0.1, gain=None, **changes):
    """A record of a cell; `gain` is its interval over images."""
    names = ('box AP', 'box APr', 'box APc', 'box APf', 'mask AP', 'mask APr')
    aps = dict.fromkeys(names, ap)
    images = [] if gain is None else [ImageGain('box AP', 0.0, *gain)]
    run = replace(
        RUN,
        cell=cell.name,
        rate=cell.tuned or CHOSEN[cell.state],
        seed=cell.seed,
        last=aps,
        best=aps,
        bins=[Bin('1-9', 1, 9, 40, ap), Bin('10-31', 10, 31, 30, 2 * ap)],
        over_images=images,
    )
    return replace(run, **changes)


def tuning():
    """Of all rates."""
    aps = {state: iter(TUNING[state]) for state in STATES}
    return {c: make(c, next(aps[c.state])) for c in tuning_cells()}


def pairs(variant, gaps, gain=(-0.05, -0.01), steps=350):
    """Frozen and fine-tuned runs of seeds 1, 2, ...; `gaps` are their
    differences."""
    found = {}
    for seed, gap in enumerate(gaps, 1):
        frozen, control = (
            Cell(variant, state, steps, seed)
            for state in ('frozen', 'finetuned')
        )
        found[frozen] = make(frozen, 0.1 + gap, flops=30_000_000_000)
        found[control] = make(control, 0.1, gain, drift=steps / 1000)
    return found
