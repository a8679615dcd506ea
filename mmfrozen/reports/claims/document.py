"""This module writes the tables and figures of docs/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from ...atomic_write import write_text
from ...run_files import StepsInTurn
from ..marked_text import replace_between
from ..page import save_png
from ..text_table import TextTable, markdown
from .cells import (
    CAPACITIES,
    CLAIMS,
    PAIR,
    RATES,
    SEEDS,
    STATES,
    STEPS,
    VARIANTS,
    Cell,
    all_cells,
    cells_of,
    tuning_cells,
)
from .charts import draw_charts
from .findings import OTHERS, QUESTIONS, Finding, answer
from .record import APS, ClaimRun, choose_rates, read_times

BEGIN = '<!-- results: written by mmfrozen reproduce --report -->'
END = '<!-- end of results -->'
NOT_RUN = 'not run'

Records = Mapping[Cell, ClaimRun]
#: Step times of a frozen and a fine-tuned run by variant.
Times = Mapping[str, StepsInTurn]


def write_document(document: Path, folder: Path, records: Records) -> None:
    """Write the results into a document, and its figures beside the records.

    Args:
        document: Markdown file with the lines ``BEGIN`` and ``END``, between
            which the text is replaced.
        folder: Folder of the records, to which the figures are written.
        records: Records by cell.

    Raises:
        ValueError: If the document lacks one of the lines.
        OSError: If it does not exist or cannot be written.
    """
    charts = draw_charts(records)
    pictures = {name: caption for name, (_, caption) in charts.items()}
    results = generate(records, read_times(folder), pictures, folder.name)
    content = f'\n\n{results}\n'
    text = replace_between(document, document.read_text(), BEGIN, END, content)
    for name, (chart, _) in charts.items():
        save_png(chart, folder / f'{name}.png', dpi=110)
    write_text(document, text)


def generate(
    records: Records,
    times: Times,
    pictures: Mapping[str, str],
    folder: str,
) -> str:
    """Return all sections as Markdown.

    Args:
        records: Records by cell.
        times: Step times by variant.
        pictures: Captions by the name of the figure.
        folder: Name of the folder of the figures, beside the document.
    """
    sections = [
        ('Cells and budget', _budget(records)),
        ('Rates', _rates(records)),
        ('Verdicts', _verdicts(records)),
        ('AP of every cell', _aps(records)),
        ('Cost of a step', _costs(records)),
        ('Time of a step, in turn', _times(times)),
        ('By training annotations', _bins(records)),
    ]
    parts = [f'### {title}\n\n{text}' for title, text in sections]
    parts += [
        f'![{caption}]({folder}/{name}.png)\n\n{caption}\n'
        for name, caption in pictures.items()
    ]
    return '\n'.join(parts)


def _table(head: Sequence[str], rows: Iterable[list[str]]) -> str:
    return markdown(TextTable('', head, list(rows))).lstrip('\n')


def _budget(records: Records) -> str:
    """Return the tables of runs and variants.

    A run that several claims share counts for the first of them.
    """
    rows, seen = [], set()
    for name, text, cells in (
        ('-', 'rates, on the held-out split', tuning_cells()),
        *((str(n), claim.text, cells_of(n)) for n, claim in CLAIMS.items()),
    ):
        new = [cell for cell in cells if cell not in seen]
        seen |= set(new)
        rows.append([name, text, *_counts(new, records)])
    rows.append(['', 'all', *_counts(all_cells(), records)])
    head = [
        'claim',
        'statement',
        'runs that no claim above has',
        'expected CPU hours',
        'recorded runs',
        'hours of their steps',
    ]
    variants = [
        [f'`{name}`', v.text, f'`{v.config}`'] for name, v in VARIANTS.items()
    ]
    return (
        _table(head, rows)
        + '\n'
        + _table(['variant', 'description', 'config'], variants)
    )


def _counts(cells: Sequence[Cell], records: Records) -> list[str]:
    runs = [records[cell] for cell in cells if cell in records]
    hours = sum(cell.minutes for cell in cells) / 60
    taken = sum(run.train_seconds for run in runs) / 3600
    return [str(len(cells)), f'{hours:.1f}', str(len(runs)), f'{taken:.1f}']


def _rates(records: Records) -> str:
    chosen = choose_rates(dict(records))
    runs = {(c.state, c.tuned): records.get(c) for c in tuning_cells()}
    rows = [
        [
            state,
            *(
                _percent(run.last['box AP']) if run else NOT_RUN
                for run in (runs[state, rate] for rate in RATES)
            ),
            f'{chosen[state]:g}' if state in chosen else NOT_RUN,
        ]
        for state in STATES
    ]
    head = ['box AP, held out', *(f'{rate:g}' for rate in RATES), 'chosen']
    return _table(head, rows)


def _verdicts(records: Records) -> str:
    rows = [_verdict(answer(question, records)) for question in QUESTIONS]
    head = [
        'claim',
        'prediction',
        'figure',
        'mean difference (interval over seeds)',
        'interval over images',
        'seeds',
        'verdict',
    ]
    return _table(head, rows)


def _verdict(finding: Finding) -> list[str]:
    question, gain = finding.question, finding.gain
    difference = images = '-'
    factor = 1 if question.figure in OTHERS else 100
    form = '+.3f' if factor == 1 else '+.1f'
    if gain is not None:
        ends = (gain.gain, gain.low, gain.high)
        mean, low, high = (format(factor * end, form) for end in ends)
        difference = f'{mean} ({low} to {high})'
    if finding.images is not None:
        low, high = (format(factor * x, form) for x in finding.images)
        images = f'{low} to {high}'
    name = question.figure
    log = 'log of ' * (question.claim == 2)
    return [
        str(question.claim),
        question.text,
        log + name,
        difference,
        images,
        ', '.join(map(str, finding.seeds)) or '-',
        finding.verdict,
    ]


def _groups() -> list[tuple[str, int, str]]:
    """Return variant, steps and state of all runs except tuning runs."""
    cells = [cell for cell in all_cells() if not cell.tuned]
    return list(dict.fromkeys((c.variant, c.steps, c.state) for c in cells))


def _aps(records: Records) -> str:
    rows = []
    for variant, steps, state in _groups():
        runs = _runs(records, variant, steps, state)
        rows.append([f'`{variant}`', state, str(steps), str(len(runs))])
        if not runs:
            rows[-1] += [NOT_RUN] + ['-'] * (len(APS) + 1)
            continue
        rows[-1] += [_spread([run.last[ap] for run in runs]) for ap in APS]
        rows[-1].append(_spread([run.best['box AP'] for run in runs]))
        rows[-1].append(_mean([run.drift for run in runs], '.3f'))
    head = ['variant', 'state', 'steps', 'seeds', *APS]
    return _table([*head, 'best box AP', 'drift'], rows)


def _runs(
    records: Records, variant: str, steps: int, state: str
) -> list[ClaimRun]:
    cells = (Cell(variant, state, steps, seed) for seed in SEEDS)
    return [records[cell] for cell in cells if cell in records]


def _percent(value: float) -> str:
    return f'{100 * value:.1f}'


def _mean(values: Sequence[float], form: str) -> str:
    return format(fmean(values), form)


def _spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of fractions as text, in %."""
    mean = _percent(fmean(values))
    if len(values) < 2:
        return mean
    return f'{mean} \N{PLUS-MINUS SIGN} {_percent(stdev(values))}'


def _costs(records: Records) -> str:
    rows = []
    for variant in CAPACITIES:
        for state in PAIR:
            runs = _runs(records, variant, STEPS, state)
            rows.append([f'`{variant}`', state])
            if not runs:
                rows[-1] += [NOT_RUN] + ['-'] * 4
                continue
            parameters = runs[0].parameters
            rows[-1] += [
                f'{parameters.trainable / parameters.total:.0%}',
                _mean([run.flops / 1e9 for run in runs], '.1f'),
                _mean([run.kept_bytes / 2**20 for run in runs], ',.0f'),
                _mean([run.peak_bytes / 2**20 for run in runs], ',.0f'),
                _mean([run.step_seconds for run in runs], '.2f'),
            ]
    return _table(
        [
            'variant',
            'state',
            'trainable',
            'GFLOPs',
            'kept, MiB',
            'peak, MiB',
            'step, s',
        ],
        rows,
    )


def _times(times: Times) -> str:
    rows = []
    for variant in CAPACITIES:
        found = times.get(variant)
        if found is None:
            rows.append([f'`{variant}`', NOT_RUN, '-', '-', '-'])
            continue
        ratio = found.ratio
        rows.append(
            [
                f'`{variant}`',
                f'{found.run.median:.2f}',
                f'{found.control.median:.2f}',
                f'{ratio.median:.2f} ({ratio.lower:.2f} to {ratio.upper:.2f})',
                f'{ratio.num}, {found.threads}',
            ]
        )
    head = ['variant', 'frozen, s', 'fine-tuned, s', 'ratio', 'pairs, threads']
    return _table(head, rows)


def _bins(records: Records) -> str:
    pairs = [_runs(records, 'nas-fpn', STEPS, state) for state in PAIR]
    if not all(pairs):
        return f'{NOT_RUN}\n'
    rows = []
    for index, bin_ in enumerate(pairs[0][0].bins):
        aps = [[run.bins[index].ap for run in runs] for runs in pairs]
        rows.append(
            [bin_.name, str(bin_.num), *map(_spread, aps)]
            + [f'{100 * (fmean(aps[0]) - fmean(aps[1])):+.1f}']
        )
    head = ['annotations', 'classes', *PAIR, 'difference']
    return _table(head, rows)
