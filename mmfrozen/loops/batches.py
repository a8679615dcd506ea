"""A data loader whose batches depend only on their number.

So a resumed run can continue at any batch.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.dist import get_dist_info
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from ..seeds import NumberedIndex, seeded
from ..type_names import find_type, type_name


class NumberedBatchSampler:
    """A wrapper of a batch sampler that can start at any batch.

    Batches before the start are skipped without loading images. Every index
    carries the number of its draw (:class:`~mmfrozen.seeds.NumberedIndex`).

    Args:
        sampler: Sampler of the samples; passed by the runner.
        batch_size: Images per batch; passed by the runner.
        batch_sampler: Config of the wrapped batch sampler.
        seed: Seed of the run, the same in all processes.

    Attributes:
        epoch: The next epoch to iterate.
    """

    def __init__(
        self, sampler: Any, batch_size: Any, batch_sampler: dict, seed: int
    ) -> None:
        self.batch_sampler = DATA_SAMPLERS.build(
            batch_sampler,
            default_args=dict(sampler=sampler, batch_size=batch_size),
        )
        self.sampler = sampler  # hooks read it from here
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self._start, self._endless = 0, False

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def begin(self, start: int, *, endless: bool = False) -> None:
        """Set the start of the next iteration over this sampler only.

        Args:
            start: Number of batches to skip.
            endless: Whether to continue with further epochs.
        """
        self._start, self._endless = start, endless

    def reseed(self, seed: int) -> None:
        """Replace a randomly drawn seed by the seed of the resumed run.

        The seeds of the wrapped samplers are replaced, too.
        """
        before, stage = self.seed, self
        while stage is not None:
            if getattr(stage, 'seed', None) == before:
                stage.seed = seed
            stage = getattr(stage, 'sampler', None)

    def __iter__(self) -> Iterator[list[NumberedIndex]]:
        start, endless = self._start, self._endless
        self.begin(0)
        yield from itertools.islice(self._batches(endless), start, None)

    def _batches(self, endless: bool) -> Iterator[list[NumberedIndex]]:
        rank, world_size = get_dist_info()
        for epoch in itertools.count(self.epoch):
            draws = itertools.count(rank, world_size)
            for batch in self.batch_sampler:
                yield [self._numbered(i, epoch, next(draws)) for i in batch]
            if next(draws) == rank:
                raise ValueError(
                    'train_dataloader must have a batch in an epoch, got '
                    'none. Use a smaller batch size, or drop_last=False.'
                )
            if not endless:
                return
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch + 1)

    def _numbered(self, index: Any, epoch: int, draw: int) -> NumberedIndex:
        if isinstance(index, NumberedIndex):
            return index
        return NumberedIndex(operator.index(index), (self.seed, epoch, draw))


class SeededGetItems:
    """A replacement for ``__getitems__`` of a dataset.

    PyTorch's data loaders call it for the samples of a batch, in the process
    that loads them. Hooks and samplers still use the dataset itself.

    Args:
        dataset: Any dataset with ``__getitem__``.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """Load samples, each with its own random seed."""
        samples = []
        for index in indices:
            with seeded(index):
                samples.append(self._dataset[int(index)])
        return samples


def build_loader(
    runner: Runner, config: Any, seed: int, loop: str
) -> DataLoader:
    """Build the runner's training data loader with numbered batches.

    Args:
        runner: The runner.
        config: ``train_dataloader``.
        seed: Seed of the run, the same in all processes.
        loop: Name of the loop, for error messages.

    Raises:
        TypeError: If the loader is already built, or its dataset is an
            iterable dataset.
    """
    remedy = f'Set train_cfg.type={loop.removeprefix("Resumable")}.'
    if not isinstance(config, dict):
        raise TypeError(
            f'train_dataloader must be a config for {loop}, got a '
            f'{type(config).__name__}. {remedy}'
        )
    dataset = config.get('dataset')
    kind = type(dataset)
    if isinstance(dataset, dict):
        kind = find_type(dataset.get('type'), DATASETS)
    if isinstance(kind, type) and issubclass(kind, IterableDataset):
        raise TypeError(
            f'train_dataloader.dataset must have numbered samples for {loop}, '
            f'got the stream {type_name(kind)}. {remedy}'
        )
    config = copy.copy(config)
    batches = config.pop('batch_sampler', None) or dict(
        type=BatchSampler, drop_last=config.pop('drop_last', False)
    )
    config['batch_sampler'] = dict(
        type=NumberedBatchSampler, batch_sampler=batches, seed=seed
    )
    loader = runner.build_dataloader(config, seed=seed)
    loader.dataset.__getitems__ = SeededGetItems(loader.dataset)
    return loader
