"""Write the demo's classifier weights: EfficientNet-Lite0, ImageNet."""

from __future__ import annotations

from pathlib import Path

from mmfrozen.mini_lvis.weights import export_lite0

from . import make_parser

EXAMPLES = """examples:
  mmfrozen lite0-weights
  mmfrozen lite0-weights --out /data/weights
"""


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/weights'),
        metavar='DIR',
        help='folder to write to (default: data/weights)',
    )
    print(export_lite0(parser.parse_args().out))
