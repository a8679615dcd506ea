"""Time averaging of weights (EMA) by MMEngine's hook and FrozenAwareEMAHook.

Both hooks update their averages of the same model in turn. Prints the median
time of an update, the bytes of the averaged model that the hook adds, and the
ratios.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from types import SimpleNamespace

import torch
from mmdet.registry import MODELS
from mmengine.device import get_device
from mmengine.hooks import EMAHook

from mmfrozen.config_file import load_config
from mmfrozen.hooks import FrozenAwareEMAHook

EXAMPLES = """examples:
  python benchmarks/ema.py configs/frozen/mask_rcnn_r101_lvis.py
"""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('--updates', type=int, default=20, metavar='N')
    return parser.parse_args()


def added_bytes(hook: EMAHook) -> int:
    """Return the bytes of the averaged model that the model does not have."""
    own = {p.data_ptr() for p in hook.src_model.parameters()}
    return sum(
        p.numel() * p.element_size()
        for p in hook.ema_model.module.parameters()
        if p.data_ptr() not in own
    )


def main() -> None:
    """Print the table."""
    args = parse_args()
    model = MODELS.build(load_config(args.config).model).to(get_device())
    runner = SimpleNamespace(model=model.train(), iter=1)
    hooks = [EMAHook(), FrozenAwareEMAHook()]
    for hook in hooks:
        hook.before_run(runner)
    times: list[list[float]] = [[], []]
    for _ in range(args.updates):
        for hook, seconds in zip(hooks, times, strict=True):
            start = time.perf_counter()
            hook.after_train_iter(runner, 0)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    sizes = [added_bytes(hook) / 2**20 for hook in hooks]
    milliseconds = [1e3 * median(seconds) for seconds in times]
    print('| | EMAHook | FrozenAwareEMAHook | ratio |\n|---|---|---|---|')
    for what, (stock, ours) in (
        ('an update, ms', milliseconds),
        ('averaged parameters, MiB', sizes),
    ):
        print(f'| {what} | {stock:.1f} | {ours:.1f} | {ours / stock:.2f} |')


if __name__ == '__main__':
    main()
