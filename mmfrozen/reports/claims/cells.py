"""This module lists the runs that test each claim of the paper, by the
protocol in docs/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BASE = 'mask_rcnn_lite0_mini-lvis'
STEPS = 350  # length of BASE's schedule
SEEDS = (1, 2, 3)
TUNING_SEED = 11
RATES = (5e-4, 1e-3, 2e-3)
STATES = ('frozen', 'finetuned', 'scratch')
PAIR = STATES[:2]
#: Number of intervals of a schedule. A run is evaluated at the end of the last
#: two: after 4/5 of the schedule and at its end.
EVALUATIONS = 5

ROI = 'model.roi_head.'
BACKBONE = 'model.backbone.backbone.'
WEIGHTS = 'data/weights/'


@dataclass(frozen=True)
class Variant:
    """Variant of the demo's config.

    Attributes:
        text: Description in one line.
        options: Values of ``--cfg-options``.
        minutes: Expected minutes of a whole schedule on one otherwise idle
            CPU core, with a frozen backbone and with a trained one.
        config: Name of the config.
        weights: Name of the classifier's file in ``data/weights``.
    """

    text: str
    options: tuple[str, ...] = ()
    minutes: tuple[float, float] = (5.9, 7.6)
    config: str = BASE
    weights: str = 'tf_efficientnet_lite0-2b4a5f7e.safetensors'


FPN = (
    'model.neck._delete_=True',
    'model.neck.type=FPN',
    'model.neck.in_channels=[40,112,320]',
    'model.neck.out_channels=64',
    'model.neck.num_outs=5',
    'model.neck.add_extra_convs=on_output',
    'model.neck.norm_cfg.type=BN',
    'model.rpn_head.in_channels=64',
    'model.rpn_head.feat_channels=64',
    f'{ROI}bbox_roi_extractor.out_channels=64',
    f'{ROI}mask_roi_extractor.out_channels=64',
    f'{ROI}bbox_head.in_channels=64',
    f'{ROI}bbox_head.fc_out_channels=256',
    f'{ROI}mask_head.in_channels=64',
)
PIPELINE = 'train_dataloader.dataset.dataset.pipeline'


def _noised(share: float) -> Variant:
    file = f'tf_efficientnet_lite0-noise{share:g}.safetensors'
    return Variant(
        f'NAS-FPN, {share:.1%} of the weights of Lite0 replaced by noise',
        (f'{BACKBONE}init_cfg.checkpoint={WEIGHTS}{file}',),
        weights=file,
    )


def _lite(number: int, file: str, minutes: tuple[float, float]) -> Variant:
    options = [
        f'{BACKBONE}model_name=tf_efficientnet_lite{number}',
        f'{BACKBONE}init_cfg.checkpoint={WEIGHTS}{file}',
    ]
    if number == 2:
        options.append('model.neck.in_channels=[48,120,352]')
    return Variant(
        f'NAS-FPN on Lite{number}', tuple(options), minutes, weights=file
    )


VARIANTS = {
    'fpn': Variant('FPN of 64 channels, heads of 256', FPN, (4.5, 6.2)),
    'nas-fpn': Variant('the demo: NAS-FPN of 128 channels, heads of 1024'),
    'wide-heads': Variant(
        'NAS-FPN repeated 3 times, heads of 2048',
        ('model.neck.stack_times=3', f'{ROI}bbox_head.fc_out_channels=2048'),
        (7.5, 9.2),
    ),
    'noise-0.001': _noised(0.001),
    'noise-0.002': _noised(0.002),
    'lite1': _lite(1, 'tf_efficientnet_lite1-2e16a017.safetensors', (7.5, 10)),
    'lite2': _lite(2, 'tf_efficientnet_lite2-57fa2d5d.safetensors', (8.5, 12)),
    'lsj': Variant(
        'NAS-FPN, scale jitter 0.1 to 2.0',
        (f'{PIPELINE}.2.ratio_range=(0.1,2.0)',),
    ),
    'copy-paste': Variant(
        'NAS-FPN, Simple Copy-Paste',
        minutes=(6.2, 7.9),
        config='mask_rcnn_lite0_scp_mini-lvis',
    ),
    'adapters': Variant(
        'NAS-FPN, residual adapters',
        minutes=(6.5, 7.6),
        config='mask_rcnn_lite0_adapters_mini-lvis',
    ),
}


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        variant: Key of ``VARIANTS``.
        state: State of the backbone, one of ``STATES``.
        steps: Number of steps of the schedule.
        seed: Seed of the run.
        tuned: Learning rate that the run tries on the held-out split; None
            for a run with the chosen rate, evaluated on the validation set.
    """

    variant: str
    state: str
    steps: int = STEPS
    seed: int = SEEDS[0]
    tuned: float | None = None

    @property
    def name(self) -> str:
        """Name of the run's record."""
        rate = f'_rate{self.tuned:g}' if self.tuned else ''
        return (
            f'{self.variant}_{self.state}_{self.steps}_seed{self.seed}{rate}'
        )

    @property
    def pair(self) -> str:
        """Name that the runs of all states share; a tuning run has its own."""
        if self.tuned:
            return self.name
        return self.name.replace(f'_{self.state}_', '_')

    @property
    def minutes(self) -> float:
        """Expected minutes on one otherwise idle CPU core."""
        frozen, others = VARIANTS[self.variant].minutes
        whole = frozen if self.state == 'frozen' else others
        return whole * self.steps / STEPS

    def options(self, rate: float) -> list[str]:
        """Return the values of ``--cfg-options`` for a learning rate."""
        interval = self.steps // EVALUATIONS
        return [
            *VARIANTS[self.variant].options,
            f'randomness.seed={self.seed}',
            f'optim_wrapper.optimizer.lr={rate:g}',
            f'train_cfg.val_begin={interval * (EVALUATIONS - 1)}',
            f'train_cfg.val_interval={interval}',
        ]


@dataclass(frozen=True)
class Claim:
    """Claim of the paper and the runs that test it.

    Attributes:
        text: The claim in one line.
        groups: Variant, number of steps and states of the runs.
    """

    text: str
    groups: tuple[tuple[str, int, Sequence[str]], ...]


CLASSIFIERS = ('nas-fpn', 'noise-0.001', 'noise-0.002', 'lite1', 'lite2')
#: Variants of increasing capacity, with their names in charts.
CAPACITIES = {'fpn': 'FPN', 'nas-fpn': 'NAS-FPN', 'wide-heads': 'wide heads'}
CLAIMS = {
    1: Claim(
        'with a small neck freezing loses, with capacity it wins',
        (
            ('fpn', STEPS, PAIR),
            ('nas-fpn', STEPS, STATES),
            ('wide-heads', STEPS, PAIR),
        ),
    ),
    2: Claim(
        'freezing saves FLOPs, memory and time at every capacity',
        tuple((name, STEPS, PAIR) for name in CAPACITIES),
    ),
    3: Claim(
        'the gain grows as a class has fewer annotations',
        (('nas-fpn', STEPS, PAIR),),
    ),
    4: Claim(
        'a longer schedule moves a fine-tuned backbone further, and that '
        'costs AP',
        tuple(('nas-fpn', s, PAIR) for s in (STEPS // 2, STEPS, 2 * STEPS)),
    ),
    5: Claim(
        'a better classifier helps more when it is frozen',
        tuple((name, STEPS, PAIR) for name in CLASSIFIERS),
    ),
    6: Claim(
        'large scale jitter and Copy-Paste help a frozen detector, too',
        tuple(
            (name, STEPS, PAIR) for name in ('nas-fpn', 'lsj', 'copy-paste')
        ),
    ),
    7: Claim(
        'residual adapters add to a frozen backbone',
        (('nas-fpn', STEPS, PAIR), ('adapters', STEPS, ('frozen',))),
    ),
}


def tuning_cells() -> list[Cell]:
    """Return the runs that choose the learning rate of each state."""
    return [
        Cell('nas-fpn', state, seed=TUNING_SEED, tuned=rate)
        for rate in RATES
        for state in STATES
    ]


def cells_of(claim: int) -> list[Cell]:
    """Return the runs of a claim in order of seed, with adjacent pairs."""
    return [
        Cell(variant, state, steps, seed)
        for seed in SEEDS
        for variant, steps, states in CLAIMS[claim].groups
        for state in states
    ]


def all_cells(claims: Iterable[int] = tuple(CLAIMS)) -> list[Cell]:
    """Return the tuning runs, then the runs of the claims, each once."""
    found = [cell for claim in claims for cell in cells_of(claim)]
    return list(dict.fromkeys([*tuning_cells(), *found]))
