"""Compare variants of an experiment, each trained with several seeds.

Each folder holds the work dirs of one variant's seeds. Prints mean and
standard deviation of AP over seeds and, in the last two columns, the mean
difference from the first folder over pairs of the same seed, with Student's
95 % confidence interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmfrozen.reports.runs.seeds import SeedGain, paired_gain
from mmfrozen.reports.runs.work_dir import read_run

EXAMPLES = """examples:
  for seed in 1 2 3; do
      mim train mmdet configs/frozen/NAME.py --gpus 0 \\
          --work-dir runs/NAME/seed_$seed --cfg-options randomness.seed=$seed
  done
  python benchmarks/variants.py runs/mask_rcnn_lite0_mini-lvis \\
      runs/mask_rcnn_lite0_*_mini-lvis
"""
COLUMNS = {
    'box AP': 'bbox_AP',
    'APr': 'bbox_APr',
    'APc': 'bbox_APc',
    'APf': 'bbox_APf',
    'mask AP': 'segm_AP',
    'mask APr': 'segm_APr',
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('folders', nargs='+', type=Path, metavar='FOLDER')
    return parser.parse_args()


def read_seeds(folder: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of each evaluated seed, by name of its work dir."""
    evaluated = sorted(path.parent for path in folder.glob('*/strata.json'))
    return {
        run.name: {
            key.partition('/')[2]: value
            for key, value in read_run(run).metrics.items()
        }
        for run in evaluated
    }


def row(
    name: str,
    variant: dict[str, dict[str, float]],
    first: dict[str, dict[str, float]],
) -> str:
    """Return a line of the table, with AP from 0 to 100."""
    seeds = sorted(variant.keys() & first.keys())
    gains = [
        paired_gain(
            [variant[seed][key] for seed in seeds],
            [first[seed][key] for seed in seeds],
        )
        for key in COLUMNS.values()
    ]
    cells = [f'{100 * g.run:.1f} ± {100 * g.run_spread:.1f}' for g in gains]
    differences = ['-'] * 2 if variant is first else map(cell, gains[:2])
    return f'| {" | ".join([name, str(len(seeds)), *cells, *differences])} |'


def cell(gain: SeedGain) -> str:
    """Return a difference and its interval as text."""
    low, high = 100 * gain.low, 100 * gain.high
    return f'{100 * gain.gain:+.1f} ({low:+.1f} to {high:+.1f})'


def main() -> None:
    """Print the table."""
    folders = parse_args().folders
    runs = {folder.name: read_seeds(folder) for folder in folders}
    heads = ['', 'seeds', *COLUMNS, 'box AP - first', 'APr - first']
    print(f'| {" | ".join(heads)} |\n|{"---|" * len(heads)}')
    for name, variant in runs.items():
        print(row(name, variant, runs[folders[0].name]))


if __name__ == '__main__':
    main()
