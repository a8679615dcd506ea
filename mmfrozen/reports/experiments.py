"""Make the table of all experiments: sizes, FLOPs, reported AP."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ..freeze_config import meta
from ..freezing import count_parameters
from ..tracing.workload import read_workload
from .savings.all_configs import trace_pack
from .savings.comparison import compare_totals, saved

BEGIN = '<!-- experiments: written by mmfrozen experiments -->'
END = '<!-- end of experiments -->'
HEADS = (
    'experiment',
    'parameters, M',
    'trainable, M',
    'share',
    'TFLOPs frozen',
    'fine-tuned',
    'saved',
    'AP',
)
#: Quotation of the paper in the head (docstring) of a config.
REPORTED = re.compile(r'The paper reports(.*?)\[second-hand\]', re.S)
NOT_COUNTED = '-'


@dataclass(frozen=True)
class Experiment:
    """One experiment of the table.

    Attributes:
        name: Name of its config.
        parameters: Number of all parameters.
        trainable: Number of trainable parameters.
        frozen_flops: FLOPs of a training step per image; None if they were
            not counted.
        finetuned_flops: FLOPs of its control, likewise.
        is_unrun: Whether the head of its config says "not run".
        reported: AP that the paper reports, as quoted in that head; empty
            without a quotation.
    """

    name: str
    parameters: int
    trainable: int
    frozen_flops: float | None
    finetuned_flops: float | None
    is_unrun: bool
    reported: str


def find_experiments(folder: Path) -> list[Path]:
    """Return the configs of a folder's frozen experiments, sorted by name.

    Raises:
        FileNotFoundError: If there are none.
    """
    paths = sorted((folder / 'frozen').glob('*.py'))
    if not paths:
        raise FileNotFoundError(
            f'FOLDER must hold experiments in frozen/, got {str(folder)!r}. '
            'Give the folder of the pack: configs.'
        )
    return paths


def count_sizes(path: Path) -> tuple[int, int]:
    """Count the parameters of an experiment without allocating them.

    Returns:
        Numbers of all and of trainable parameters.
    """
    model = meta.build(Config.fromfile(path).model.deepcopy()).train()
    counts = count_parameters(model)
    return counts.total, counts.trainable


def count_flops(
    paths: Sequence[Path], report: Callable[[str], None] = lambda name: None
) -> dict[str, tuple[float, float]]:
    """Count the FLOPs of a training step of experiments and their controls.

    Returns:
        FLOPs per image, frozen and fine-tuned, by name of the config.

    Raises:
        ValueError: If a step cannot be traced.
    """
    found = {}
    processes = min(os.cpu_count() or 1, len(paths))
    for entry in trace_pack(paths, read_workload, processes):
        report(entry.name)
        if entry.savings is None:
            raise ValueError(f'{entry.name}: {entry.error}')
        totals = compare_totals(entry.savings)
        step = next(q for q in totals if q.name == 'step')
        images = entry.savings.work.batch_size
        found[entry.name] = step.frozen / images, step.control / images
    return found


def read_head(path: Path) -> tuple[bool, str]:
    """Read whether a config was not run, and the paper's AP, from its head."""
    head = path.read_text().partition('"""')[2].partition('"""')[0]
    found = REPORTED.search(head)
    reported = ' '.join(found[1].split()).rstrip(' ,;') if found else ''
    return 'not run' in head, reported


def list_experiments(
    folder: Path,
    *,
    flops: Mapping[str, tuple[float | None, float | None]],
    report: Callable[[str], None] = lambda name: None,
) -> list[Experiment]:
    """Measure every experiment of a folder.

    Args:
        folder: Folder with ``frozen/`` and ``finetuned/``.
        flops: FLOPs of an experiment and its control by name, from
            :func:`count_flops` or :func:`read_flops`.
        report: Called with the name of each experiment.
    """
    experiments = []
    for path in find_experiments(folder):
        report(path.stem)
        experiments.append(
            Experiment(
                path.stem,
                *count_sizes(path),
                *flops.get(path.stem, (None, None)),
                *read_head(path),
            )
        )
    return experiments


def row(experiment: Experiment) -> list[str]:
    """Return the cells of an experiment's row."""
    e = experiment
    cells = [
        e.name,
        f'{e.parameters / 1e6:.2f}',
        f'{e.trainable / 1e6:.2f}',
        f'{e.trainable / e.parameters:.1%}',
    ]
    if e.frozen_flops is None or e.finetuned_flops is None:
        cells += [NOT_COUNTED] * 3
    else:
        shown = [
            f'{flops / 1e12:.3f}'
            for flops in (e.frozen_flops, e.finetuned_flops)
        ]
        # from rounded values: a table that is read back gives the same share
        share = saved(*map(float, shown)) or 0.0
        cells += [*shown, f'{share:.0%}']
    paper = f'; paper [1]: {e.reported}' if e.reported else ''
    own = 'not run' if e.is_unrun else 'see its head'
    return [*cells, own + paper]


def markdown(experiments: Iterable[Experiment]) -> str:
    """Return the table in Markdown, without its begin and end marks."""
    rows = [
        '| ' + ' | '.join([f'`{cells[0]}`', *cells[1:]]) + ' |'
        for cells in map(row, experiments)
    ]
    ruler = '|---|' + '---:|' * (len(HEADS) - 2) + '---|'
    head = '| ' + ' | '.join(HEADS) + ' |'
    return '\n'.join(['', '', head, ruler, *rows, '', ''])


def read_flops(table: str) -> dict[str, tuple[float | None, float | None]]:
    """Read the FLOPs of every experiment from the text of the table."""
    found = {}
    for line in table.splitlines():
        cells = [cell.strip(' `') for cell in line.strip('|').split('|')]
        if len(cells) != len(HEADS) or cells[4] in (NOT_COUNTED, HEADS[4]):
            continue
        try:
            found[cells[0]] = float(cells[4]) * 1e12, float(cells[5]) * 1e12
        except ValueError:  # the line between head and rows
            continue
    return found  # type: ignore[return-value]
