"""One training step of MMDetection's configs, on a tiny input.

    python -m tests.ops.zoo_steps --out losses.json
    python -m tests.ops.zoo_steps --out other.json --against losses.json

Run it once with mmcv-lite and once with compiled mmcv. Configs whose models
consist of the same classes and use the same operators count as one, of which
the first is run. Weights are random, from one seed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope

ZOO = Path(mmdet.__file__).parent / '.mim' / 'configs'
SIZE = (3, 128, 128)


def classes(cfg: Any) -> Iterator[str]:
    """Every `type` in a model, and what switches an operator on."""
    if isinstance(cfg, dict):
        for key, value in cfg.items():
            if key in ('type', 'dcn', 'sac', 'loss_weight'):
                yield f'{key}={value if isinstance(value, str) else ""}'
            if key not in ('init_cfg', 'test_cfg', 'data_preprocessor'):
                yield from classes(value)
    elif isinstance(cfg, list | tuple):
        for value in cfg:
            yield from classes(value)


def sources(only: list[str]) -> dict[str, Config]:
    """One config of each kind, by its path in the zoo.

    Args:
        only: Names that are wanted; empty for all.
    """
    found: dict[tuple[str, ...], str] = {}
    cfgs: dict[str, Config] = {}
    for path in sorted(ZOO.rglob('*.py')):
        if '_base_' in path.parts:
            continue
        name = path.relative_to(ZOO).as_posix()
        if only and name not in only:
            continue
        try:
            cfg = Config.fromfile(path)
        except Exception:  # fragments and scripts among the configs
            continue
        if 'model' not in cfg:
            continue
        kind = tuple(sorted(set(classes(cfg.model))))
        if kind not in found:
            found[kind] = name
            cfgs[name] = cfg
    return cfgs


def without_weights(cfg: Any) -> Any:
    """Drop what would be downloaded."""
    if isinstance(cfg, dict):
        for key in list(cfg):
            is_init = key == 'init_cfg' and 'checkpoint' in str(cfg[key])
            if is_init or key in ('teacher_ckpt', 'pretrained'):
                cfg[key] = None
            else:
                without_weights(cfg[key])
    elif isinstance(cfg, list | tuple):
        for value in cfg:
            without_weights(value)
    return cfg


def step(cfg: Config) -> dict[str, float]:
    """Build a model, run a forward and a backward pass; return its losses.

    Raises:
        Exception: Whatever the model does.
    """
    torch.manual_seed(0)
    init_default_scope('mmdet')
    model = MODELS.build(without_weights(cfg.model))
    model.init_weights()
    model.train()
    torch.manual_seed(1)
    data = demo_mm_inputs(
        2,
        [SIZE, SIZE],
        [4, 6],
        num_classes=2,
        with_mask=True,
        with_semantic=True,
        use_box_type=True,
    )
    data = model.data_preprocessor(data, True)
    losses = model(**data, mode='loss')
    loss, scalars = model.parse_losses(losses)
    loss.backward()
    result = {k: float(v) for k, v in scalars.items()}
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    result['grad_norm'] = float(torch.stack(norms).norm())
    return result


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--against', type=Path, help='of an earlier run')
    parser.add_argument('--only', nargs='+', default=[], metavar='NAME')
    args = parser.parse_args()

    rows: dict[str, Any] = {}
    if args.out.exists():
        rows = json.loads(args.out.read_text())  # resumes
    todo = sources(args.only)
    for number, (name, cfg) in enumerate(todo.items(), 1):
        if name in rows:
            continue
        start = time.monotonic()
        try:
            rows[name] = step(cfg)
            word = f'loss {rows[name]["loss"]:.4f}'
        except Exception as error:
            line = str(error).strip().partition('\n')[0][:200]
            rows[name] = f'{type(error).__name__}: {line}'
            word = rows[name]
        print(
            f'{number} of {len(todo)} {name} {time.monotonic() - start:.1f} s '
            f'{word}',
            flush=True,
        )
        args.out.write_text(json.dumps(rows, indent=1))
    print(sum(isinstance(r, dict) for r in rows.values()), 'of', len(rows))
    if args.against:
        compare(rows, json.loads(args.against.read_text()))


def compare(rows: dict[str, Any], others: dict[str, Any]) -> None:
    """Print what differs between two runs."""
    for name in sorted(rows.keys() | others.keys()):
        a, b = rows.get(name), others.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            worst = max(
                abs(a[k] - b[k]) / max(abs(a[k]), 1e-3)
                for k in a
                if k in b and not (math.isnan(a[k]) and math.isnan(b[k]))
            )
            if not worst < 1e-3:
                print(f'{name}: values differ by {worst:.2g}')
        elif isinstance(a, dict) or isinstance(b, dict):
            print(f'{name}: {a} against {b}'[:300])


if __name__ == '__main__':
    main()
