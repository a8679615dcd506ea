"""Compare training steps of MMDetection and mmfrozen, and their FLOP limit.

    python benchmarks/train_step.py --batch 2 --size 512          # a CPU
    python benchmarks/train_step.py --batch 8 --size 1024 --bf16  # a GPU

Weights and images are random, with 11 objects per image, and with proposals
that fill the sampler's quota of positives, as late in training. Masks are
bitmaps or crops, as the pipeline of each side loads them. Times are medians;
on a CPU the steps of all kinds alternate. "GPU busy" is the total time of the
kernels and copies of a profiled step. The FLOP limit is the time of the step's
FLOPs at the rate of a large matrix product, measured in the same run. "Ahead"
computes the features of the next batch while heads train on this one: in a
thread, on a GPU on a stream of its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

import mmfrozen  # noqa: F401, I001  # mmcv's operators, before mmdet
from mmfrozen.engine import FrozenEngine
from mmfrozen.freeze_config.batched import use_batched
from mmfrozen.hooks.cuda_graph import GraphedStaticPart
from mmfrozen.models.batched.truth import Padded
from mmfrozen.transforms import CompactMasks

CONFIGS = Path(__file__).parents[1] / 'configs'
OBJECTS, NEAR = 11, 300
#: State of the backbone, whether heads are batched, and what is added: a CUDA
#: graph of the part that does not depend on objects, FrozenEngine, features
#: computed one batch ahead.
KINDS = {
    'fine-tuned': ('finetuned', False, ()),
    "MMDetection's default": ('default', False, ()),
    'frozen': ('frozen', False, ()),
    'frozen, engine': ('frozen', False, ('engine',)),
    'frozen, engine, ahead': ('frozen', False, ('engine', 'ahead')),
    'features given': ('features', False, ()),
    'batched fine-tuned': ('finetuned', True, ()),
    'batched frozen': ('frozen', True, ()),
    'batched frozen, engine': ('frozen', True, ('engine',)),
    'batched, engine, ahead': ('frozen', True, ('engine', 'ahead')),
    'graphed frozen': ('frozen', True, ('graph',)),
    'graphed frozen, engine': ('frozen', True, ('engine', 'graph')),
    'batched, features given': ('features', True, ()),
}


def make_data(
    batch: int, size: int, classes: int, *, crops: bool = False
) -> dict[str, Any]:
    """Return a batch of noise images with rectangular objects."""
    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for _ in range(batch):
        image = torch.randint(0, 255, (3, size, size), dtype=torch.uint8)
        inputs.append(
            image.pin_memory() if torch.cuda.is_available() else image
        )
        xy = rng.integers(0, size * 3 // 4, (OBJECTS, 2))
        wh = rng.integers(size // 24, size // 4, (OBJECTS, 2))
        masks = np.zeros((OBJECTS, size, size), np.uint8)
        for mask, (x, y), (w, h) in zip(masks, xy, wh, strict=True):
            mask[y : y + h, x : x + w] = 1
        bitmaps = BitmapMasks(masks, size, size)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(size, size),
                ori_shape=(size, size),
                scale_factor=(1.0, 1.0),
            )
        )
        boxes = torch.tensor(np.concatenate((xy, xy + wh), 1)).float()
        sample.gt_instances = InstanceData(
            bboxes=boxes,
            labels=torch.tensor(rng.integers(0, classes, OBJECTS)),
            masks=CompactMasks.of(bitmaps) if crops else bitmaps,
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def near_objects(data: dict[str, Any], device: str) -> Tensor:
    """Return proposals around the objects, (N, NEAR, 4)."""
    torch.manual_seed(0)
    found = []
    for sample in data['data_samples']:
        boxes = sample.gt_instances.bboxes
        boxes = boxes[torch.arange(NEAR) % len(boxes)]
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        found.append(boxes + sides * 0.1 * (torch.rand(NEAR, 4) - 0.5))
    return torch.stack(found).to(device)


def strip(node: Any) -> None:
    """Remove settings that need several processes or a download, in place."""
    if isinstance(node, dict):
        if node.get('type') in ('SyncBN', 'MMSyncBN'):
            node['type'] = 'BN'
        for key, value in node.items():
            if key in ('init_cfg', 'checkpoint_path'):
                node[key] = None
            elif key == 'pretrained':
                node[key] = False
            else:
                strip(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            strip(value)


def make_narrow(node: Any) -> None:
    """Set few classes, proposals and sampled regions, in place."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'num_classes':
                node[key] = 8
            elif key == 'nms_pre':
                node[key] = min(value, 200)
            elif key == 'sampler':
                value.num = min(value.num, 64)
            else:
                make_narrow(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            make_narrow(value)


def build(
    name: str, state: str, *, fast: bool, device: str, narrow: bool = False
) -> Any:
    """Build a detector with random weights.

    A narrow detector has few classes and regions, but the same operators.
    """
    folder = 'finetuned' if state == 'finetuned' else 'frozen'
    model = Config.fromfile(CONFIGS / folder / f'{name}.py').model
    strip(model)
    if state == 'default':
        model.backbone.frozen_stages = 1
    if narrow:
        make_narrow(model)
    if fast:
        use_batched(model)
    else:
        name = (
            'CascadeRCNN' if 'Cascade' in model.roi_head.type else 'MaskRCNN'
        )
        model.type = model.type.replace('BatchedTwoStageDetector', name)
        for part in ('data_preprocessor', 'rpn_head', 'roi_head'):
            model[part].type = model[part].type.replace('Batched', '')
    torch.manual_seed(0)
    built = MODELS.build(model)
    for parameter in built.parameters():
        if parameter.dim() > 1 and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.01)
    if not fast:
        built.rpn_head.fallback_reason = 'the benchmark'
    return built.train().to(device)


class Step:
    """Training step: preprocessing, forward pass, backward pass, update."""

    def __init__(
        self,
        model: Any,
        data: Any,
        device: str,
        bf16: bool,
        *,
        late: bool = True,
    ) -> None:
        self.model, self.data, self.bf16 = model, data, bf16
        self.device = device
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            trained, lr=1e-6, momentum=0.9, foreach=True
        )
        if late:
            self._fill_positives(near_objects(data, device))

    def _fill_positives(self, near: Tensor) -> None:
        model = self.model
        roi, stock_loss = model.roi_head, model.roi_head.loss

        def loss(x: Any, proposals: Any, samples: Any) -> Any:
            for results, boxes in zip(proposals, near, strict=True):
                results.bboxes[:NEAR] = boxes
            return stock_loss(x, proposals, samples)

        roi.loss = loss
        if hasattr(roi, 'batched_loss'):
            batched_loss = roi.batched_loss

            def filled(x: Any, proposals: Padded, *others: Any) -> Any:
                proposals.boxes[:, :NEAR] = near
                proposals.valid[:, :NEAR] = True
                return batched_loss(x, proposals, *others)

            roi.batched_loss = filled

    def __call__(self) -> None:
        samples = []
        for sample in self.data['data_samples']:
            new = DetDataSample(metainfo=sample.metainfo)
            new.gt_instances = copy.copy(sample.gt_instances)
            samples.append(new)
        data = dict(inputs=list(self.data['inputs']), data_samples=samples)
        data = self.model.data_preprocessor(data, True)
        autocast = (
            torch.autocast(self.device, torch.bfloat16)
            if self.bf16
            else nullcontext()
        )
        with autocast:
            losses = self.model(**data, mode='loss')
        loss, _ = self.model.parse_losses(losses)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def give_features(step: Step) -> None:
    """Replace the backbone by its features, which are computed only once."""
    model = step.model
    with torch.no_grad():
        data = model.data_preprocessor(
            dict(
                inputs=list(step.data['inputs']),
                data_samples=copy.deepcopy(step.data['data_samples']),
            ),
            True,
        )
        autocast = torch.autocast(step.device, torch.bfloat16, step.bf16)
        with autocast:
            features = model.backbone(data['inputs'])
    model.backbone.forward = lambda _: features


class Ahead:
    """Forward pass of a frozen backbone that runs one batch ahead.

    The benchmark's batches are equal, so the next batch is this one.
    """

    def __init__(self, step: Step) -> None:
        self.forward = step.model.backbone.forward
        self.precision = (step.device, torch.bfloat16, step.bf16)
        self.thread = ThreadPoolExecutor(1)
        self.stream = torch.cuda.Stream() if step.device == 'cuda' else None
        self.next: Future[Any] | None = None

    def __call__(self, images: Tensor) -> Any:
        features = self.next.result() if self.next else self._compute(images)
        if self.stream:
            torch.cuda.current_stream().wait_stream(self.stream)
            for level in features:
                level.record_stream(torch.cuda.current_stream())
        self.next = self.thread.submit(self._compute, images)
        return features

    def _compute(self, images: Tensor) -> Any:
        with (
            torch.no_grad(),
            torch.autocast(*self.precision),
            torch.cuda.stream(self.stream),
        ):
            return self.forward(images)


def seconds(step: Step) -> float:
    """Run a step and return its seconds."""
    if step.device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if step.device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def busy(step: Step) -> tuple[float | None, int | None]:
    """Return the milliseconds and the number of kernels and copies of a step;
    None without a GPU."""
    if step.device != 'cuda':
        return None, None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        torch.cuda.synchronize()
    cuda = torch.autograd.DeviceType.CUDA
    found = [e for e in profiler.events() if e.device_type == cuda]
    return sum(e.device_time for e in found) / 1e3, len(found)


def matmul_rate(device: str, bf16: bool) -> float:
    """Return the FLOP/s of a large matrix product."""
    side = 8192 if device == 'cuda' else 1536
    dtype = torch.bfloat16 if bf16 else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype)
    times = []
    for _ in range(6):
        if device == 'cuda':
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        if device == 'cuda':
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


def prepare(
    name: str, kind: str, args: Any, device: str
) -> tuple[Step, float]:
    """Return a step after its warm-up, and its TFLOPs."""
    from torch.utils.flop_counter import FlopCounterMode

    state, fast, added = KINDS[kind]
    model = build(
        name, state.replace('features', 'frozen'), fast=fast, device=device
    )
    head = model.roi_head.bbox_head
    head = head[0] if isinstance(head, torch.nn.ModuleList) else head
    data = make_data(args.batch, args.size, head.num_classes, crops=fast)
    step = Step(model, data, device, args.bf16)
    if state == 'features':
        give_features(step)
    with FlopCounterMode(display=False) as counter:
        step()
    if 'engine' in added:
        FrozenEngine(
            model.backbone, lambda: True, compiled=args.compiled or 'auto'
        )
    if 'ahead' in added:
        model.backbone.forward = Ahead(step)
    if 'graph' in added:
        model.run_static = GraphedStaticPart(model)
    for _ in range(args.warm_up):
        step()
    return step, counter.get_total_flops() / 1e12


def measure(name: str, kind: str, args: Any, device: str) -> dict[str, Any]:
    """Return the row of one kind of step."""
    step, tflop = prepare(name, kind, args, device)
    if device == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = [seconds(step) for _ in range(args.steps)]
    row = make_row(name, kind, args, times, tflop)
    if device == 'cuda':
        row['peak_mib'] = torch.cuda.max_memory_allocated() / 2**20
        row['reserved_mib'] = torch.cuda.max_memory_reserved() / 2**20
    row['gpu_ms'], row['kernels'] = busy(step)
    return row


def measure_in_turn(name: str, args: Any) -> list[dict[str, Any]]:
    """Return all rows of a config; its steps alternate, since other processes
    may use the CPU."""
    steps = {kind: prepare(name, kind, args, 'cpu') for kind in args.kinds}
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for _ in range(args.steps):
        for kind, (step, _) in steps.items():
            times[kind].append(seconds(step))
    return [
        make_row(name, kind, args, times[kind], tflop)
        for kind, (_, tflop) in steps.items()
    ]


def make_row(
    name: str, kind: str, args: Any, times: list[float], tflop: float
) -> dict[str, Any]:
    """Return a row with the values that are known on any device."""
    return dict(
        config=name,
        kind=kind,
        batch=args.batch,
        size=args.size,
        bf16=args.bf16,
        ms=statistics.median(times) * 1e3,
        low=min(times) * 1e3,
        high=max(times) * 1e3,
        gpu_ms=None,
        kernels=None,
        peak_mib=None,
        reserved_mib=None,
        tflop=tflop,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        '--configs',
        nargs='+',
        default=['mask_rcnn_r101_fpn_lvis', 'mask_rcnn_r101_lvis'],
    )
    parser.add_argument('--kinds', nargs='+', default=list(KINDS))
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--size', type=int, default=512)
    parser.add_argument('--steps', type=int, default=6)
    parser.add_argument('--warm-up', type=int, default=3)
    parser.add_argument('--bf16', action='store_true')
    parser.add_argument('--compiled', action='store_true')
    parser.add_argument('--out', help='rows as JSON')
    args = parser.parse_args()
    register_all_modules()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    card = torch.cuda.get_device_name() if device == 'cuda' else 'CPU'
    rate = matmul_rate(device, args.bf16)
    precision = 'bf16' if args.bf16 else 'fp32'
    print(
        f'{card}, torch {torch.__version__}, {precision}, {args.batch} x '
        f'{args.size}; matrix products: {rate / 1e12:.1f} TFLOP/s'
    )
    rows = []
    for name in args.configs:
        print(f'\n{name}')
        print(
            f'{"":24}      ms   range  GPU busy  kernels    MiB  reserved  '
            'of frozen'
        )
        found = (
            measure_in_turn(name, args)
            if device == 'cpu'
            else [measure(name, kind, args, device) for kind in args.kinds]
        )
        base = next((r['ms'] for r in found if r['kind'] == 'frozen'), None)
        for row in found:
            rows.append(row)
            ratio = f'{row["ms"] / base:9.2f}' if base else ''
            gpu = (
                f'{row["gpu_ms"]:9.1f} {row["kernels"]:8}'
                if row['gpu_ms']
                else ' ' * 18
            )
            print(
                f'{row["kind"]:24}{row["ms"]:8.1f} '
                f'{row["low"]:.0f}-{row["high"]:.0f}{gpu} '
                f'{row["peak_mib"] or 0:7.0f} '
                f'{row["reserved_mib"] or 0:8.0f} {ratio}',
                flush=True,
            )
            limit = row['tflop'] * 1e12 / rate * 1e3
            print(f'{"  its FLOP limit":24}{limit:8.1f}', flush=True)
        if args.out:
            Path(args.out).write_text(json.dumps([card, rows], indent=1))


if __name__ == '__main__':
    main()
