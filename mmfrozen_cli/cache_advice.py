"""Predict whether a cache of the frozen backbone's features saves time.

Computes the size of the cache from the config alone. Then times training
steps on this machine in three ways in turn: without a cache ("plain"), with
FrozenEngineHook ("engine"), and with features that are already in memory
("cache"). It also measures the disk. Steps use the images of the config if
they exist, otherwise synthetic ones. The last line of the output recommends
plain, engine or cache. See docs/feature_cache_advisor.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# building a model must not download weights
os.environ.setdefault('HF_HUB_OFFLINE', '1')

from . import add_cfg_options, make_parser  # noqa: E402
from .console import PlainConsole, show_result  # noqa: E402
from .savings import add_workload, int_at_least, read_work  # noqa: E402

EXAMPLES = """exit status: 0 done, 2 invalid input, or no cache is possible

examples:
  mmfrozen cache-advice configs/frozen/mask_rcnn_r101_lvis.py \\
      --images 100170 --no-measure
  mmfrozen cache-advice configs/frozen/mask_rcnn_lite0_mini-lvis.py \\
      --views 8 --folder data
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path of a config, or mmdet::NAME')
    add_workload(parser)
    add(
        '--views',
        type=int_at_least(1),
        default=1,
        metavar='K',
        help='number of augmented views stored of each image (default: 1)',
    )
    add(
        '--storage',
        choices=('fp32', 'fp16', 'bf16', 'int8'),
        default='fp16',
        help='dtype of the stored features (default: fp16)',
    )
    add(
        '--images',
        type=int_at_least(1),
        metavar='N',
        help='number of images (default: that of the train data set, if its '
        'annotations exist)',
    )
    add(
        '--folder',
        type=Path,
        default=Path('.'),
        metavar='DIR',
        help='folder on the disk that would hold the cache (default: the '
        'current folder)',
    )
    add(
        '--gpus',
        type=int_at_least(1),
        default=1,
        metavar='N',
        help='number of training processes that read from this disk '
        '(default: 1)',
    )
    add(
        '--steps',
        type=int_at_least(2),
        default=8,
        metavar='N',
        help='number of steps to time in each way (default: 8)',
    )
    add(
        '--no-measure',
        action='store_true',
        help='compute bytes and FLOPs only, without running a step',
    )
    add('--json', action='store_true', help='print JSON, not tables')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.dtype and not args.no_measure:
        parser.error(
            '--dtype needs --no-measure: timed steps use the dtype of CONFIG'
        )
    return args


def advise(
    args: argparse.Namespace, report: Callable[[str], None]
) -> Callable[[PlainConsole], int]:
    """Measure and predict; return a function that prints the result.

    Args:
        args: Parsed command line.
        report: Function that shows the current stage.
    """
    from mmfrozen.cache_advice.advice import decide, predict
    from mmfrozen.cache_advice.data import build_dataset
    from mmfrozen.cache_advice.disk import Disk, free_bytes, measure_disk
    from mmfrozen.cache_advice.features import trace_features, view_bytes
    from mmfrozen.config_file import load_config

    cfg = load_config(args.config, args.cfg_options)
    work = read_work(args, cfg)
    report('tracing the features')
    shapes = trace_features(cfg, work.shape)
    report('reading the data set')
    dataset = build_dataset(cfg)
    disk = Disk(str(args.folder), free_bytes(args.folder))
    if not args.no_measure:
        report('measuring the disk')
        disk = measure_disk(args.folder, view_bytes(shapes, args.storage))
    report('counting FLOPs')
    question = ask(args, cfg, work, shapes, dataset)
    measured = prediction = None
    if not args.no_measure:
        report('measuring steps')
        measured = measure(args, cfg, work, dataset)
        prediction = predict(question, disk, measured, free_memory())
    verdict = decide(question, disk, prediction)

    def show(console: PlainConsole) -> int:
        from mmfrozen.reports import cache_advice as tables

        if args.json:
            record = tables.to_record(
                question, disk, measured, prediction, verdict
            )
            print(json.dumps(record, indent=1))
            return 0
        for line in tables.conditions(question, measured):
            console.print(line, soft_wrap=True)
        console.print(tables.draw_bytes(question, disk))
        if measured and prediction:
            console.print(tables.draw_steps(measured, prediction))
            console.print(
                tables.draw_disk(question, disk, measured, prediction)
            )
        console.print(f'{verdict.use}: {verdict.because}', soft_wrap=True)
        return 0

    return show


def ask(
    args: argparse.Namespace, cfg: Any, work: Any, shapes: Any, dataset: Any
) -> Any:
    """Return the ``Question`` about the config's cache and training.

    Raises:
        ValueError: If the number of images is not known.
    """
    from mmfrozen.cache_advice.advice import Question
    from mmfrozen.cache_advice.data import count_images
    from mmfrozen.schedule import length_of
    from mmfrozen.tracing.training_step import trace_step

    if dataset is None and not args.images:
        raise ValueError(
            '--images must be set if the annotations of train_dataloader.'
            'dataset do not exist, got none. Set --images N.'
        )
    images = args.images or count_images(dataset)
    draws = images if dataset is None or args.images else len(dataset)
    key, length = length_of(cfg)
    if key == 'max_iters':
        length = length * work.batch_size * args.gpus / draws
    components = trace_step(cfg, work).components
    flops = [(c.name, c.flops.total) for c in components]
    return Question(
        config=args.config,
        batch_size=work.batch_size,
        size=work.shape,
        dtype=work.dtype,
        shapes=shapes,
        storage=args.storage,
        views=args.views,
        images=images,
        draws=draws,
        epochs=length,
        gpus=args.gpus,
        step_flops=sum(f for _, f in flops),
        backbone_flops=sum(f for n, f in flops if n.startswith('backbone')),
    )


def measure(
    args: argparse.Namespace, cfg: Any, work: Any, dataset: Any
) -> Any:
    """Return the measured times of training steps.

    Raises:
        ValueError: If a training step cannot run here.
    """
    from mmfrozen.cache_advice.steps import measure_steps
    from mmfrozen.errors import one_line

    try:
        return measure_steps(
            cfg, work, dataset, storage=args.storage, num_steps=args.steps
        )
    except ValueError:
        raise
    except Exception as error:  # model, loader and GPU can raise anything
        raise ValueError(
            'A training step must run on this machine to be timed, got '
            f'{one_line(error)}. Set --no-measure, or a smaller --batch-size.'
        ) from error


def free_memory() -> int:
    """Return the bytes of memory in which the system can cache files."""
    import psutil

    return int(psutil.virtual_memory().available)


def main() -> int:
    """Return 0 when done, 2 for invalid input."""
    args = parse_args()

    def compute(errors: PlainConsole) -> Callable[[PlainConsole], int]:
        with errors.status('reading the config') as status:
            return advise(args, status.update)

    return show_result(compute)
