"""Count the outcomes of mistakes in configs, also in stock MMDetection.

    nice -n 10 python -m benchmarks.fuzz_configs --trials 2000
    nice -n 10 python -m benchmarks.fuzz_configs --trials 500 --stock

Each trial takes an experiment or a control of the pack (with --stock
MMDetection's Mask R-CNN and MMEngine's runner), makes one mistake and runs it
to the end of its first step, in a process of its own. It keeps all keys of
the config, with small widths, images and data. --jobs sets the number of
trials at a time.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mmengine.hub import get_config
from mmengine.runner import Runner

from mmfrozen.mini_lvis import Parameters, build
from mmfrozen.runner import CheckedRunner
from tests.config_check.mutations import Mutation, mutations
from tests.config_check.shrink import prepare, shrink
from tests.config_check.trial import FORK, Outcome, first_step
from tests.configs.pack import CONFIGS, load
from tests.tiny import ROOT

STOCK = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'


def main() -> None:
    """Run the trials and print their outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--trials', type=int, default=2000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--stock', action='store_true')
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--out', type=Path, help='a line of json a trial')
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = prepare_all(Path(folder))
        drawn = draw(args, files)
        run = functools.partial(
            first_step, runner_class=Runner if args.stock else CheckedRunner
        )
        with ProcessPoolExecutor(args.jobs, mp_context=FORK) as pool:
            outcomes = pool.map(run, [one.cfg for _, one in drawn])
            report(zip(drawn, outcomes, strict=True), args.out)


def prepare_all(folder: Path) -> dict[str, Path]:
    """Write the data and weights of all trials; return their paths."""
    data = folder / 'lvis_v1'
    build(data, Parameters(num_train=24, num_val=8, height=96, width=128))
    return prepare(folder, data)


def draw(
    args: argparse.Namespace, files: dict[str, Path]
) -> list[tuple[str, Mutation]]:
    """Return the name of a config and a mistake in it for every trial."""

    @functools.cache
    def small(name: str) -> dict[str, Any]:
        cfg = get_config(STOCK) if args.stock else load(ROOT / name)
        return shrink(cfg, files)

    names = [str(path.relative_to(ROOT)) for path in CONFIGS]
    names = [STOCK] if args.stock else names
    drawn: dict[str, tuple[str, Mutation]] = {}  # each mistake once

    @settings(
        max_examples=2 * args.trials,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(names))
        mutation = data.draw(mutations(small(name)))
        if len(drawn) < args.trials:
            drawn.setdefault(f'{name} {mutation!r}', (name, mutation))

    for one in range(args.seed, args.seed + 10):
        if len(drawn) < args.trials:
            seed(one)(collect)()
    return list(drawn.values())


def verdict(mutation: Mutation, outcome: Outcome) -> str:
    """Return the row of the table in which a trial is counted."""
    named = outcome.names(mutation.typed)
    if outcome.kind == 'step':
        if named:
            return 'trains, a warning names the key'
        if mutation.kind.startswith('typo'):
            return 'trains, the misspelt key is ignored silently'
        return 'trains'
    if outcome.kind == 'error' and named:
        return 'a line names the key'
    if outcome.kind == 'error':
        return 'an error without the key'
    return outcome.kind


def report(trials: Any, out: Path | None) -> None:
    """Print the counts of outcomes; write each trial to a file."""
    counts: collections.Counter[str] = collections.Counter()
    lines = []
    for (name, mutation), outcome in trials:
        row = verdict(mutation, outcome)
        counts[row] += 1
        lines.append(
            json.dumps(
                dict(
                    verdict=row,
                    config=name,
                    mutation=repr(mutation),
                    line=outcome.line,
                    place=outcome.place,
                )
            )
        )
        if out:
            out.write_text('\n'.join(lines) + '\n')
    total = sum(counts.values())
    for row, count in counts.most_common():
        print(f'{row:50} {count:5} {count / total:6.1%}')


if __name__ == '__main__':
    main()
