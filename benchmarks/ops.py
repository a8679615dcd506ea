"""Compare mmfrozen's versions of mmcv's operators with the compiled ones.

Times the forward and the backward pass of each operator at sizes of the
pack's configs, alternately in one process, and prints medians. Needs mmcv with
compiled operators; without them only the times of mmfrozen's are printed. With
--step also times a training step of a config.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import mmcv.ops as mmcv_ops
import torch
from mmcv import _ext
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.table import Table
from torch import Tensor

import mmfrozen_ext
from mmfrozen import ops
from mmfrozen.tracing.fake_targets import make_samples

EXAMPLES = """examples:
  python benchmarks/ops.py
  python benchmarks/ops.py --device cuda --dtype float16
  python benchmarks/ops.py --only NMS --step \\
      configs/frozen/mask_rcnn_r101_lvis.py
"""
DTYPES = {
    'float32': torch.float32,
    'float16': torch.float16,
    'bfloat16': torch.bfloat16,
}
#: Operators for which mmcv has compiled kernels on a CPU.
ON_CPU = frozenset(
    (
        'RoIAlign 7 x 7',
        'RoIAlign 14 x 14',
        'RoIAlign 7 x 7, maximum',
        'NMS',
        'soft NMS',
        'NMS match',
        'DCN',
        'DCN v2',
        'overlaps',
    )
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--dtype', default='float32', choices=DTYPES)
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--only', default='', help='part of a name')
    parser.add_argument('--step', metavar='CONFIG', help='a training step')
    parser.add_argument('--size', type=int, default=512, help='of its images')
    return parser.parse_args()


@contextmanager
def over_torchvision() -> Iterator[None]:
    """Let mmcv call mmfrozen's operators."""
    originals = {name: getattr(_ext, name) for name in ops.__all__}
    for name in originals:
        setattr(_ext, name, getattr(ops, name))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(_ext, name, original)


def operators(
    device: str, dtype: torch.dtype
) -> dict[str, tuple[Callable[..., Any], list[Tensor]]]:
    """Return operators and their inputs, which require grad, by name."""
    torch.manual_seed(0)

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        made = torch.randn(*shape, device=device, dtype=dtype) * scale
        return made.requires_grad_()

    def boxes(count: int, size: int) -> Tensor:
        start = torch.rand(count, 2, device=device) * size * 0.8
        sides = torch.rand(count, 2, device=device) * size * 0.2 + 4
        return torch.cat((start, start + sides), dim=1)

    rois = torch.cat(
        (torch.arange(512, device=device)[:, None] % 2, boxes(512, 1024)), 1
    ).to(dtype)
    features = leaf(2, 256, 64, 64)
    many, scores = boxes(4000, 1024), torch.rand(4000, device=device)
    few = torch.cat((boxes(500, 1024), torch.rand(500, 1, device=device)), 1)
    shapes = torch.tensor([[64, 64], [32, 32]], device=device)
    attend = mmcv_ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    return {
        'RoIAlign 7 x 7': (
            lambda x: mmcv_ops.roi_align(x, rois, 7, 1 / 16, 0),
            [features],
        ),
        'RoIAlign 14 x 14': (
            lambda x: mmcv_ops.roi_align(x, rois, 14, 1 / 16, 0),
            [features],
        ),
        'RoIAlign 7 x 7, maximum': (
            lambda x: mmcv_ops.roi_align(x, rois, 7, 1 / 16, 2, 'max'),
            [features],
        ),
        'RoIPool': (
            lambda x: mmcv_ops.roi_pool(x, rois[:64], 7, 1 / 16),
            [features],
        ),
        'NMS': (lambda: mmcv_ops.nms(many, scores, 0.7), []),
        'soft NMS': (lambda: mmcv_ops.soft_nms(few[:, :4], few[:, 4]), []),
        'NMS match': (lambda: mmcv_ops.nms_match(few, 0.5), []),
        'overlaps': (lambda: mmcv_ops.bbox_overlaps(many, few[:, :4]), []),
        'DCN': (
            lambda x, o, w: mmcv_ops.deform_conv2d(x, o, w, 1, 1),
            [leaf(2, 128, 32, 32), leaf(2, 18, 32, 32), leaf(128, 128, 3, 3)],
        ),
        'DCN v2': (
            lambda x, o, m, w: mmcv_ops.modulated_deform_conv2d(
                x, o, m, w, None, 1, 1
            ),
            [
                leaf(2, 128, 32, 32),
                leaf(2, 18, 32, 32),
                leaf(2, 9, 32, 32),
                leaf(128, 128, 3, 3),
            ],
        ),
        'deformable attention': (
            lambda v, p, w: attend.apply(
                v, shapes, torch.tensor([0, 4096], device=device), p, w, 64
            ),
            [
                leaf(2, 5120, 8, 32),
                leaf(2, 300, 8, 2, 4, 2, scale=0.5),
                leaf(2, 300, 8, 2, 4),
            ],
        ),
        'sigmoid focal loss': (
            lambda x: mmcv_ops.sigmoid_focal_loss(
                x, torch.arange(len(x), device=device) % 81, 2.0, 0.25
            ),
            [leaf(20000, 80)],
        ),
        'softmax focal loss': (
            lambda x: mmcv_ops.softmax_focal_loss(
                x, torch.arange(len(x), device=device) % 80, 2.0, 0.25
            ),
            [leaf(20000, 80)],
        ),
        'CARAFE': (
            lambda x, m: mmcv_ops.carafe(x, m, 5, 1, 2),
            [leaf(2, 64, 32, 32), leaf(2, 25, 64, 64)],
        ),
    }


def measure(
    call: Callable[..., Any], leaves: list[Tensor], device: str
) -> tuple[float, float]:
    """Return the seconds of the forward and the backward pass."""
    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    for leaf in leaves:
        leaf.grad = None
    wait()
    start = time.perf_counter()
    out = call(*leaves)
    wait()
    middle = time.perf_counter()
    if leaves:
        out.sum().backward()
        wait()
    return middle - start, time.perf_counter() - middle


def medians(
    call: Callable[..., Any],
    leaves: list[Tensor],
    args: argparse.Namespace,
    with_compiled: bool,
) -> list[tuple[float, float]]:
    """Return median seconds of forward and backward, of mmfrozen's operators
    and, if wanted, of the compiled ones."""
    sides: list[Callable[[], Any]] = [over_torchvision]
    if with_compiled:
        sides.append(nullcontext)
    times: list[list[tuple[float, float]]] = [[] for _ in sides]
    for _ in range(args.repeats + 1):  # the first one warms up
        for side, found in zip(sides, times, strict=True):
            with side():
                found.append(measure(call, leaves, args.device))
    return [
        (
            statistics.median(forward for forward, _ in found[1:]),
            statistics.median(backward for _, backward in found[1:]),
        )
        for found in times
    ]


def training_step(path: str, size: int, device: str) -> Callable[[], Tensor]:
    """Return a function that computes a model's fp32 loss on two images."""
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        cfg.model.backbone.pop('init_cfg', None)
        model = MODELS.build(cfg.model)
    model.train().to(device)
    samples = [
        sample.to(device)
        for sample in make_samples(2, (size, size), objects=10, num_classes=2)
    ]
    images = torch.randn(2, 3, size, size, device=device)

    def call() -> Tensor:
        torch.manual_seed(0)
        loss: Tensor = model.parse_losses(model(images, samples, mode='loss'))[
            0
        ]
        return loss

    return call


def add_row(table: Table, name: str, times: list[tuple[float, float]]) -> None:
    """Add a row with milliseconds and ratios to the table."""
    cells = []
    for phase in (0, 1):
        ours = times[0][phase] * 1e3
        if len(times) == 1:
            cells += [f'{ours:.2f}', '-', '-']
        else:
            theirs = times[1][phase] * 1e3
            ratio = f'{ours / theirs:.2f}' if theirs > 1e-3 else '-'
            cells += [f'{ours:.2f}', f'{theirs:.2f}', ratio]
    table.add_row(name, *cells)


def main() -> None:
    """Print one line per operator."""
    args = parse_args()
    has_compiled = mmfrozen_ext.is_compiled(_ext)
    if args.device == 'cuda' and not torch.cuda.is_available():
        print('CUDA: not run, there is no GPU here')
        return
    device = (
        torch.cuda.get_device_name()
        if args.device == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads'
    )
    table = Table(
        'operator',
        title=f'{device}, {args.dtype}, torch {torch.__version__}, ms',
        caption='over torchvision, beside compiled'
        + ('' if has_compiled else '; compiled operators: not installed'),
    )
    for phase in ('forward', 'backward'):
        table.add_column(phase, justify='right')
        table.add_column('compiled', justify='right')
        table.add_column('ratio', justify='right')
    for name, (call, leaves) in operators(
        args.device, DTYPES[args.dtype]
    ).items():
        if args.only in name:
            both = has_compiled and (args.device != 'cpu' or name in ON_CPU)
            add_row(table, name, medians(call, leaves, args, both))
    if args.step:
        step = training_step(args.step, args.size, args.device)
        # a leaf, so that the backward pass is measured
        one = torch.ones((), device=args.device, requires_grad=True)
        add_row(
            table,
            f'step, 2 x {args.size}, float32',
            medians(lambda x: step() * x, [one], args, has_compiled),
        )
    Console().print(table)


if __name__ == '__main__':
    main()
