"""Write the demo's classifier weights: EfficientNet-Lite0, ImageNet."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmfrozen.mini_lvis.weights import export_lite0

EXAMPLES = """examples:
  mmfrozen lite0-weights
  mmfrozen lite0-weights --out /data/weights
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/weights'),
        metavar='DIR',
        help='folder to write to (default: data/weights)',
    )
    print(export_lite0(parser.parse_args().out))
