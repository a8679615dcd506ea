"""Write the classifier of the mini-LVIS configs: EfficientNet-Lite0 with its
ImageNet weights.
"""

from __future__ import annotations

from pathlib import Path

from mmfrozen.mini_lvis.weights import export_lite0

from . import make_parser, print_line

EXAMPLES = """exit status: 0 done, 2 the file cannot be written

examples:
  mmfrozen lite0-weights
  mmfrozen lite0-weights --out /data/weights
"""


def main() -> int:
    """Return 0 when done, 2 if the weights cannot be written."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/weights'),
        metavar='DIR',
        help='folder to write to (default: data/weights)',
    )
    try:
        print(export_lite0(parser.parse_args().out))
    except (OSError, ValueError) as error:
        print_line('error', error)
        return 2
    return 0
