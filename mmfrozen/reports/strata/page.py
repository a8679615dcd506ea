"""Write the page of a comparison by strata."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from .. import page
from .bars import draw_bins, draw_classes
from .captions import (
    bins_caption,
    curve_caption,
    errors_caption,
    examples_caption,
    kinds,
    method,
    ranking_caption,
    summary_line,
)
from .curve import add_titles, draw_by_annotations
from .error_charts import draw_calibration, draw_errors
from .example_images import Example
from .record import ClassGain, StrataGain
from .tables import (
    bin_head,
    bin_rows,
    calibration_rows,
    class_head,
    class_rows,
    confusion_rows,
    error_head,
    error_rows,
)
from .text import describe, format_estimate

STYLE = """<style>
.examples { display: grid; gap: 1rem 1.4rem;
            grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)); }
.examples { margin: 1rem 0; }
.examples figure { margin: 0; }
.examples img { max-width: 100%; border: 1px solid #ddd; }
.lead { font-size: 1.05rem; max-width: 52rem; }
section > div { overflow-x: auto; } td { white-space: nowrap; }
td:first-child { white-space: normal; overflow-wrap: anywhere;
                 min-width: 7rem; max-width: 22rem; }
summary { cursor: pointer; margin: .8rem 0; }
li { margin: .3rem 0; max-width: 56rem; }
</style>"""
NO_IMAGES = (
    'No example images: their files were not found beside the annotations. '
    'Give their folder with --images FOLDER.'
)
NO_DETECTIONS = (
    'No example images: only strata.json is left of the runs. Test them with '
    '--out results.pkl.'
)


def write_strata_page(
    path: Path,
    gain: StrataGain,
    examples: dict[int, Example],
    *,
    why_no_examples: str = NO_IMAGES,
) -> None:
    """Write the page.

    Raises:
        FileExistsError: If the file exists.
    """
    title = f'AP by class: {gain.run} against {gain.control}'
    if gain.control is None:
        title = f'AP by strata: {gain.run}'
    page.write_page(
        path,
        title,
        [
            STYLE,
            page.paragraph(describe(gain).partition('\n')[2]),
            f'<p class=lead>{escape(summary_line(gain))}</p>',
            *(page.paragraph(f'Note: {note}') for note in gain.notes),
            _annotations_section(gain),
            *([_errors_section(gain)] if gain.errors else []),
            _bins_section(gain),
            _classes_section(gain, examples, why_no_examples),
            _all_classes_section(gain),
            _method_section(gain),
        ],
    )


def _annotations_section(gain: StrataGain) -> str:
    chart = page.figure(draw_by_annotations(gain), curve_caption(gain))
    return page.section('By training annotations', [add_titles(chart)])


def _errors_section(gain: StrataGain) -> str:
    names = [name for name in (gain.run, gain.control) if name is not None]
    parts = [
        page.figure(draw_errors(gain), errors_caption()),
        '<details><summary>All bins</summary>'
        f'{_scrolling(error_head(gain), error_rows(gain))}</details>',
    ]
    if any(gain.confusions):
        parts += [
            '<h3>Classes confused</h3>',
            page.paragraph(
                "Errors of type Cls by the frequency of the object's class "
                "and of the detection's.",
                note=True,
            ),
            _scrolling(['objects', *names], confusion_rows(gain)),
        ]
    parts += [
        '<h3>Scores and precision</h3>',
        page.figure(
            draw_calibration(gain),
            'Detections are grouped in tenths of their score. On the dotted '
            'line the score equals the share of detections that are correct '
            'at IoU 0.5. The table shows the mean distance from it, weighted '
            'by detections (expected calibration error).',
        ),
        _scrolling(['bin', *names], calibration_rows(gain)),
    ]
    return page.section('Types of error', parts)


def _bins_section(gain: StrataGain) -> str:
    head = bin_head(gain)
    rows = []
    for title, found in bin_rows(gain):
        if title:
            rows.append([f'by {title}:', *[''] * (len(head) - 1)])
        rows += found
    return page.section(
        'By bin',
        [
            page.figure(draw_bins(gain), bins_caption(gain)),
            _scrolling(head, rows),
        ],
    )


def _classes_section(
    gain: StrataGain, examples: dict[int, Example], why_no_examples: str
) -> str:
    ends = gain.most()
    parts = [page.paragraph(ranking_caption(gain), note=True)]
    if any(ends):
        caption = '(r), (c), (f): frequency group of the class.'
        parts.append(page.figure(draw_classes(*ends, gain), caption))
    for kind, rows in zip(kinds(gain), ends, strict=True):
        parts.append(f'<h3>{kind[0].upper()}{kind[1:]}</h3>')
        if rows:
            parts.append(_scrolling(class_head(gain), class_rows(rows, gain)))
            parts.append(_gallery(rows, gain, examples))
        else:
            parts.append(page.paragraph('None.'))
    parts.append(
        page.paragraph(
            examples_caption(gain) if examples else why_no_examples,
            note=True,
        )
    )
    return page.section('Classes with the largest changes', parts)


def _gallery(
    rows: Sequence[ClassGain], gain: StrataGain, examples: dict[int, Example]
) -> str:
    figures = []
    for row in rows:
        example = examples.get(row.category_id)
        if example is None:
            continue
        caption = (
            f'{row.name} ({row.frequency}): '
            f'{format_estimate(row.shown, gain)}; {row.train_annotations:,} '
            f'training annotations; image {example.image_id}'
        )
        figures.append(
            f'<figure><img src="{example.uri}" alt="{escape(row.name)}">'
            f'<figcaption>{escape(caption)}</figcaption></figure>'
        )
    return f'<div class=examples>{"".join(figures)}</div>' if figures else ''


def _all_classes_section(gain: StrataGain) -> str:
    rows = sorted(gain.classes, key=lambda row: -row.train_annotations)
    table = _scrolling(class_head(gain), class_rows(rows, gain))
    return page.section(
        'All classes',
        [
            f'<details><summary>All {len(rows):,}, most training '
            f'annotations first</summary>{table}</details>'
        ],
    )


def _scrolling(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f'<div>{page.table(head, rows)}</div>'


def _method_section(gain: StrataGain) -> str:
    listed = ''.join(f'<li>{escape(item)}</li>' for item in method(gain))
    return page.section('How to read this', [f'<ul>{listed}</ul>'])
