"""Measure what a feature cache costs and saves, in one process.

    mmfrozen cache fill CONFIG --out FOLDER --views 1
    python benchmarks/feature_cache.py CONFIG FOLDER --steps 15

Steps of four kinds alternate: with the cache, with the same features given in
memory, with images and the plain backbone, and with images and the backbone
as an inference engine. Loading (in this process, without workers) and the
step are timed separately. Then filling is compared with the engine's forward
pass alone, and reading views in random order with a cold page cache with
reading a whole file. Times are medians; the weights do not change.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper

import mmfrozen  # noqa: F401
from mmfrozen.config_file import build_train_dataset
from mmfrozen.engine import FrozenEngine
from mmfrozen.feature_cache import CachedTraining, FeatureStore, Images, fill
from mmfrozen.feature_cache.forward import build_model
from mmfrozen.seeds import NumberedIndex, seeded

WARM_UP = 2


class Kind:
    """One way to load a batch and run a training step on it.

    Args:
        config: Config of the run.
        name: ``'cache'``, ``'given'``, ``'plain'`` or ``'engine'``.
        folder: Folder of the cache.
    """

    def __init__(self, config: Config, name: str, folder: Path) -> None:
        torch.manual_seed(0)
        self.name, self.model = name, build_model(config)
        self.dataset = build_train_dataset(config)
        wrapper = copy.deepcopy(config.optim_wrapper)
        self.optimizer = build_optim_wrapper(self.model, wrapper)
        for group in self.optimizer.optimizer.param_groups:
            group['lr'] = 0.0
        if name in ('cache', 'given'):
            store = FeatureStore(folder)
            images = Images(self.dataset, store.stamps())
            places = store.places(images, 1)
            store.check()
            self.store = store
            CachedTraining(
                self.model, self.dataset, store, places, images.rows
            )
        if name == 'given':
            self._give_features()
        if name == 'engine':
            FrozenEngine(self.model.backbone, lambda: True)

    def _give_features(self) -> None:
        """Keep the features of each batch in memory after the first read."""
        read, known = self.store.features, {}

        def given(places: Any, *others: Any) -> Any:
            key = str(places)
            if key not in known:
                known[key] = read(places, *others)
            return known[key]

        self.store.features = given

    def load(self, indices: list[NumberedIndex]) -> Any:
        """Return a batch of samples as the data loader would."""
        if hasattr(self.dataset, '__getitems__'):
            return pseudo_collate(self.dataset.__getitems__(indices))
        samples = []
        for index in indices:
            with seeded(index):
                samples.append(self.dataset[int(index)])
        return pseudo_collate(samples)

    def step(self, batch: Any) -> None:
        """Run a training step: preprocessing, forward, backward, update."""
        self.model.train_step(copy.deepcopy(batch), self.optimizer)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call, including GPU work, and its result."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def measure_steps(config: Config, folder: Path, steps: int) -> None:
    """Print medians of loading and step times for each kind."""
    names = ('cache', 'given', 'plain', 'engine')
    kinds = [Kind(config, name, folder) for name in names]
    size = config.train_dataloader.batch_size
    draws = random.Random(0)
    indices = [
        [
            NumberedIndex(draws.randrange(len(kinds[0].dataset)), (0, 0, i))
            for i in range(step * size, (step + 1) * size)
        ]
        for step in range(WARM_UP + steps)
    ]
    loads: dict[str, list[float]] = {name: [] for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number, chosen in enumerate(indices):
        for kind in kinds[:: 1 if number % 2 else -1]:
            loading, batch = seconds(lambda k=kind, c=chosen: k.load(c))
            if kind.name == 'given':
                kind.step(batch)  # reads the features before the timed step
            torch.manual_seed(number)
            stepping, _ = seconds(lambda k=kind, b=batch: k.step(b))
            if number >= WARM_UP:
                loads[kind.name].append(loading)
                times[kind.name].append(stepping)
    print(f'\n{steps} steps of {size} images in turn, medians')
    print('                loading ms    step ms  ratio to given (quartiles)')
    for name in names:
        ratios = np.divide(times[name], times['given'])
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        print(
            f'{name:14}{statistics.median(loads[name]) * 1e3:12.1f}'
            f'{statistics.median(times[name]) * 1e3:11.1f}'
            f'{middle:9.2f} ({low:.2f} to {high:.2f})'
        )


def measure_fill(config: Config, views: int) -> None:
    """Print the times of filling and of the engine's forward pass alone."""
    config = copy.deepcopy(config)
    base = config.train_dataloader.dataset
    while 'dataset' in base:
        base = base.dataset
    base.indices = views
    size = config.train_dataloader.batch_size
    with tempfile.TemporaryDirectory() as folder:
        filled = fill(config, Path(folder), views=1, num_workers=0)
    model = build_model(config)
    shape = size, 3, *config.image_size
    images = torch.rand(shape, device=model.data_preprocessor.device)
    FrozenEngine(model.backbone, lambda: True)
    with torch.no_grad():
        model.backbone(images)
        forward = statistics.median(
            seconds(lambda: model.backbone(images))[0] for _ in range(15)
        )
    batches = -(-views // size)
    print(
        f'\nfilling {views} views: {filled.seconds:.1f} s, of which in the '
        f'backbone {filled.forward_seconds:.1f} s with the search for an '
        f"engine; the engine's forward alone {forward * batches:.1f} s"
    )


def drop(path: Path) -> None:
    """Ask the system to drop a file from its page cache."""
    with path.open('rb') as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_disk(folder: Path, batch_size: int) -> None:
    """Print the read rates of a whole file and of views in random order.

    The page cache is cold; views are also read from memory.
    """
    paths = sorted(folder.glob('*.safetensors'))
    largest = max(paths, key=lambda path: path.stat().st_size)
    for path in paths:
        drop(path)
    taken, content = seconds(largest.read_bytes)
    whole = len(content) / taken
    store = FeatureStore(folder)
    rows = [
        (number, row)
        for number, shard in enumerate(store.shards)
        for row in range(len(shard.content.views))
    ]
    random.Random(0).shuffle(rows)
    rows = rows[: 50 * batch_size]
    each = store.num_bytes / sum(1 for _ in store.views())

    def read() -> None:
        for row in rows:
            store.sample(row)

    for path in paths:
        drop(path)
    cold, _ = seconds(read)
    warm, _ = seconds(read)
    print(
        f'\na whole file {whole / 1e6:,.0f} MB/s cold; views in random order '
        f'with checksum and annotations {each * len(rows) / cold / 1e6:,.0f} '
        f'MB/s cold, {each * len(rows) / warm / 1e6:,.0f} MB/s from memory; '
        f'a batch is {each * batch_size / 1e6:.2f} MB, '
        f'{cold / len(rows) * batch_size * 1e3:.1f} ms cold'
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('folder', type=Path)
    parser.add_argument('--steps', type=int, default=15)
    parser.add_argument('--fill', type=int, default=200, help='views')
    args = parser.parse_args()
    register_all_modules()
    config = Config.fromfile(args.config)
    measure_steps(config, args.folder, args.steps)
    measure_disk(args.folder, config.train_dataloader.batch_size)
    if args.fill:
        measure_fill(config, args.fill)


if __name__ == '__main__':
    main()
