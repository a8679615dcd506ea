"""Print which parts of a config's model are frozen and which are trained.

The model is built as in a training run. Neither data nor weights are needed.
"""

from __future__ import annotations

import argparse

from mmdet.registry import MODELS
from mmdet.utils import register_all_modules

from mmfrozen.config_file import load_config
from mmfrozen.freezing import describe
from mmfrozen.reports.parameters import parameter_table

from . import add_cfg_options, make_parser, print_line
from .console import PlainConsole

EXAMPLES = """exit status: 0 done, 2 invalid input

examples:
  mmfrozen describe configs/frozen/mask_rcnn_r101_lvis.py
  mmfrozen describe configs/finetuned/mask_rcnn_r101_coco.py \\
      --cfg-options model.backbone.frozen_stages=2
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        'config',
        metavar='CONFIG',
        help='path of a config, or mmdet::NAME',
    )
    add_cfg_options(parser)
    return parser.parse_args()


def run(args: argparse.Namespace, console: PlainConsole) -> None:
    """Build the model and print its table."""
    cfg = load_config(args.config, args.cfg_options)
    register_all_modules()
    model = MODELS.build(cfg.model)
    model.train()  # some layers are frozen only in training mode
    console.print(parameter_table(describe(model), args.config))


def main() -> int:
    """Return 0 when the table is printed, 2 for invalid input."""
    args = parse_args()
    try:
        run(args, PlainConsole())
    except Exception as error:  # modules of a config may raise anything
        text = ' '.join(str(error).split()) or type(error).__name__
        print_line('error', text)
        return 2
    return 0
