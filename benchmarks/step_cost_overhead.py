"""Measure the time that StepCostHook adds to a training step.

Trains MMDetection's Mask R-CNN in one process on images of noise, and measures

- the time spent inside the hook and its wrappers in each step, and
- steps with and without the hook, in blocks that alternate in one run: elapsed
  time, and the CPU time of the process, which other work on the machine
  disturbs less.

    python benchmarks/step_cost_overhead.py --steps 80 --size 192 --rois 64

The smaller the step, the larger the share of the hook.

The step whose FLOPs are counted is reported separately: it occurs only once
per start of a run.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

import mmfrozen.hooks.step_cost.step_meter as step_meter
from mmfrozen.hooks import StepCostHook
from mmfrozen.hooks.step_cost.memory_energy import MemoryMeter
from mmfrozen.hooks.step_cost.step_flops import StepFlopsCounter
from mmfrozen.hooks.step_cost.step_timer import StepTimer

BLOCK = 5  # number of steps with the hook, then without it
#: Methods by which the hook is entered; of nested calls only the outermost
#: is timed.
ENTRIES = {
    StepCostHook: ('before_train_iter', 'after_train_iter', 'report'),
    step_meter.StepMeter: (
        'finish_step',
        '_begin_forward',
        '_see_batch',
        '_enter_backbone',
        '_leave_backbone',
    ),
    StepTimer: ('enter',),
    MemoryMeter: ('sample_resident',),
}


class Stopwatch:
    """Timer that sums the time inside functions; nested calls count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def watch(self, owner: type, name: str) -> None:
        """Time all calls of a method of a class."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - begin

        setattr(owner, name, watched)


def clocks() -> tuple[float, float]:
    """Return elapsed time and the CPU time of this process in seconds."""
    return time.perf_counter(), time.process_time()


class Switch(Hook):
    """Hook that turns StepCostHook off and on again, and times all steps."""

    priority = 'LOWEST'

    def __init__(self, hook: StepCostHook, inside: Stopwatch) -> None:
        self.hook, self.inside = hook, inside
        self.steps: dict[bool, list[tuple[float, float]]] = {
            True: [],
            False: [],
        }
        self.inside_seconds: list[float] = []

    def after_train_iter(self, runner: Runner, *args: Any, **kw: Any) -> None:
        """Record the time of the step, and turn the hook after a block."""
        step, is_on = runner.iter + 1, self.hook.is_active
        now = clocks()
        place = step % BLOCK
        # the first step of a block includes the switch
        if step > BLOCK and place != 1:
            wall, cpu = (a - b for a, b in zip(now, self.begin, strict=True))
            self.steps[is_on].append((wall, cpu))
            if is_on:
                self.inside_seconds.append(self.inside.seconds)
        if place == 0:
            self.turn(runner, on=not is_on)
        self.inside.seconds = 0.0
        self.begin = clocks()

    def turn(self, runner: Runner, *, on: bool) -> None:
        """Turn the hook on or off."""
        if not on:
            self.hook.give_up(runner, RuntimeError('switched off'))
            return
        self.hook.is_active = True
        self.hook.before_train(runner)
        self.hook._end.before_train_epoch(runner)


class Noise(Dataset):
    """Data set of noise images with boxes and masks."""

    def __init__(self, size: int) -> None:
        self.items = [
            demo_mm_inputs(1, [(3, size, size)], num_items=[8], with_mask=True)
            for _ in range(4)
        ]

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[index % len(self.items)]
        return {name: value[0] for name, value in item.items()}


def make_runner(args: argparse.Namespace, folder: str) -> Runner:
    """Return a runner of Mask R-CNN R50-FPN, frozen or fine-tuned."""
    cfg = get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    cfg.model.backbone.update(
        init_cfg=None,
        frozen_stages=-1 if args.finetuned else 4,
        norm_eval=not args.finetuned,
    )
    cfg.model.train_cfg.rcnn.sampler.num = args.rois
    loader = DataLoader(Noise(args.size), 2, collate_fn=pseudo_collate)
    hooks = dict(cfg.default_hooks, checkpoint=None)
    return Runner(
        model=cfg.model,
        work_dir=folder,
        train_dataloader=loader,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=args.steps),
        optim_wrapper=cfg.optim_wrapper,
        default_hooks=hooks,
        default_scope='mmdet',
        visualizer=cfg.visualizer,
        log_level='ERROR',
        cfg=Config(),
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train and return the measured times as a record."""
    inside = Stopwatch()
    for owner, names in ENTRIES.items():
        for name in names:
            inside.watch(owner, name)
    hook = StepCostHook(interval=10, warmup=1, count_flops=False)
    with tempfile.TemporaryDirectory() as folder:
        runner = make_runner(args, folder)
        switch = Switch(hook, inside)
        runner.register_hook(hook)
        runner.register_hook(switch)
        # turning the hook off logs a warning each time
        runner.logger.warning = lambda *a, **k: None
        switch.begin = clocks()
        runner.train()
        counted = count(runner)
    (on, on_cpu), (off, off_cpu) = (
        map(median, zip(*switch.steps[key], strict=True))
        for key in (True, False)
    )
    per_step = sum(switch.inside_seconds) / len(switch.inside_seconds)
    return dict(
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f'{platform.machine()}, {torch.get_num_threads()} threads',
        image_size=args.size,
        rois=args.rois,
        backbone='finetuned' if args.finetuned else 'frozen',
        num_steps=len(switch.steps[True]) + len(switch.steps[False]),
        step_seconds_with=on,
        step_seconds_without=off,
        difference_per_cent=100 * (on / off - 1),
        cpu_seconds_with=on_cpu,
        cpu_seconds_without=off_cpu,
        cpu_difference_per_cent=100 * (on_cpu / off_cpu - 1),
        inside_seconds=per_step,
        inside_per_cent=100 * per_step / off,
        counted_step_seconds=counted,
    )


def count(runner: Runner) -> float:
    """Return the seconds of a step whose FLOPs are counted."""
    batch = next(iter(runner.train_dataloader))
    counter = StepFlopsCounter()
    begin = time.perf_counter()
    counter.start(runner.model)
    runner.model.train_step(batch, runner.optim_wrapper)
    counter.stop(1, None)
    assert counter.result, counter.note
    return time.perf_counter() - begin


def main() -> None:
    """Measure the overhead and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=80)
    parser.add_argument('--size', type=int, default=192, metavar='PIXELS')
    parser.add_argument('--rois', type=int, default=128, help='an image')
    parser.add_argument('--finetuned', action='store_true')
    args = parser.parse_args()
    register_all_modules()
    print(json.dumps(measure(args), indent=2))


if __name__ == '__main__':
    main()
