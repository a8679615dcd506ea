"""Table of all experiments: sizes, FLOPs, reported AP."""

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
#: How the head of a config quotes the paper.
REPORTED = re.compile(r'The paper reports(.*?)\[second-hand\]', re.S)
NOT_COUNTED = '-'


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: Of its config.
        parameters: All of them.
        trainable: Those that train.
        frozen_flops: Of a training step, an image; None if not counted.
        finetuned_flops: Of its control's.
        is_unrun: Whether the head of its config says "not run".
        reported: What the paper reports, as that head says.
    """

    name: str
    parameters: int
    trainable: int
    frozen_flops: float | None
    finetuned_flops: float | None
    is_unrun: bool
    reported: str


def find_experiments(folder: Path) -> list[Path]:
    """Configs of the frozen experiments of a folder, by name.

    Raises:
        FileNotFoundError: If there are none.
    """
    paths = sorted((folder / 'frozen').glob('*.py'))
    if not paths:
        raise FileNotFoundError(
            f'FOLDER must hold experiments in frozen/, got {str(folder)!r}. '
            'Give the pack: configs.'
        )
    return paths


def count_sizes(path: Path) -> tuple[int, int]:
    """Count the parameters of an experiment without memory for them.

    Returns:
        All, and those that train.
    """
    model = meta.build(Config.fromfile(path).model.deepcopy()).train()
    counts = count_parameters(model)
    return counts.total, counts.trainable


def count_flops(
    paths: Sequence[Path], report: Callable[[str], None] = lambda name: None
) -> dict[str, tuple[float, float]]:
    """Count a training step of experiments and of their controls.

    Returns:
        FLOPs an image, frozen and fine-tuned, by name of the config.

    Raises:
        ValueError: If one cannot be traced, with the part that failed.
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
    """Read whether an experiment is not run, and what the paper reports."""
    head = path.read_text().split('"""')[1]
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
        folder: With ``frozen/`` and ``finetuned/``.
        flops: Of an experiment and its control, by name, from
            :func:`count_flops` or :func:`read_flops`.
        report: Told what is being measured.
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
    """The cells of an experiment."""
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
        # of what is shown, so that a table read back says the same
        share = saved(*map(float, shown)) or 0.0
        cells += [*shown, f'{share:.0%}']
    paper = f'; paper [1]: {e.reported}' if e.reported else ''
    own = 'not run' if e.is_unrun else 'see its head'
    return [*cells, own + paper]


def markdown(experiments: Iterable[Experiment]) -> str:
    """The table, between the marks that it is found by."""
    rows = [
        '| ' + ' | '.join([f'`{cells[0]}`', *cells[1:]]) + ' |'
        for cells in map(row, experiments)
    ]
    ruler = '|---|' + '---:|' * (len(HEADS) - 2) + '---|'
    head = '| ' + ' | '.join(HEADS) + ' |'
    return '\n'.join([BEGIN, '', head, ruler, *rows, '', END])


def read_flops(table: str) -> dict[str, tuple[float | None, float | None]]:
    """Read the FLOPs of every experiment from the table's text."""
    found = {}
    for line in table.splitlines():
        cells = [cell.strip(' `') for cell in line.strip('|').split('|')]
        if len(cells) != len(HEADS) or cells[4] in (NOT_COUNTED, HEADS[4]):
            continue
        try:
            found[cells[0]] = float(cells[4]) * 1e12, float(cells[5]) * 1e12
        except ValueError:  # the ruler
            continue
    return found  # type: ignore[return-value]


def replace_table(text: str, table: str) -> str:
    """Put a table in the place of the one in a text.

    Raises:
        ValueError: If the text has no place for it.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(
            f'README.md must have the lines {BEGIN!r} and {END!r}, got '
            'neither or one. Put them where the table belongs.'
        )
    return before + table + after
