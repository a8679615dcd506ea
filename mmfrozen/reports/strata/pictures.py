"""Write the charts and example images of a comparison to files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...atomic_write import write_bytes
from ..page import check_empty, save_png
from .bars import draw_bins, draw_classes
from .captions import kinds
from .curve import draw_by_annotations
from .error_charts import draw_calibration, draw_errors
from .example_images import Example, Examples
from .record import ClassGain, StrataGain

DPI = 150


def draw_examples(
    gain: StrataGain,
    examples: Examples,
    track: Callable[[Sequence[ClassGain]], Iterable[ClassGain]] = iter,
) -> dict[int, Example]:
    """Draw example images of the classes that gained and lost most.

    Args:
        gain: The comparison.
        examples: Draws the example images.
        track: Wraps the classes for a progress bar.

    Returns:
        Examples by category id, without classes that have no readable image.
    """
    gained, lost = gain.most()
    signs = {row.category_id: 1 for row in gained}
    signs.update({row.category_id: -1 for row in lost})
    drawn = {}
    for row in track([*gained, *lost]):
        example = examples.draw(row.category_id, signs[row.category_id])
        if example is not None:
            drawn[row.category_id] = example
    return drawn


def write_pictures(
    folder: Path, gain: StrataGain, examples: dict[int, Example]
) -> None:
    """Write the charts as PNG and the examples as JPEG into a new folder.

    Raises:
        FileExistsError: If the folder is not empty.
    """
    check_empty(folder)
    charts = {
        'by_annotations': draw_by_annotations(gain),
        'by_bin': draw_bins(gain),
    }
    if gain.errors:
        charts['by_error'] = draw_errors(gain)
        charts['calibration'] = draw_calibration(gain)
    gained, lost = gain.most()
    if gained or lost:
        charts['by_class'] = draw_classes(gained, lost, gain)
    for name, chart in charts.items():
        save_png(
            chart,
            folder / f'{name}.png',
            dpi=DPI,
            bbox_inches='tight',
            pad_inches=0.15,
        )
    for kind, rows in zip(kinds(gain), (gained, lost), strict=True):
        for rank, row in enumerate(rows, start=1):
            if row.category_id in examples:
                name = re.sub(r'[^\w.-]+', '_', row.name)[:60]
                file = folder / f'{kind.split()[0]}_{rank:02}_{name}.jpg'
                write_bytes(file, examples[row.category_id].jpeg)
