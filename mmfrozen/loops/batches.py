"""A loader whose batches follow from their number alone."""

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
    """The batches of another batch sampler, from any of them on.

    Those before are passed over without loading an image. Every index
    carries the number of its draw (:class:`~mmfrozen.seeds.NumberedIndex`).

    Args:
        sampler: Which chooses samples; the runner gives it.
        batch_size: Images a batch; the runner gives it.
        batch_sampler: Config of the one that makes batches of them.
        seed: Of the run, the same in all processes.

    Attributes:
        epoch: The next to iterate.
    """

    def __init__(
        self, sampler: Any, batch_size: Any, batch_sampler: dict, seed: int
    ) -> None:
        self.batch_sampler = DATA_SAMPLERS.build(
            batch_sampler,
            default_args=dict(sampler=sampler, batch_size=batch_size),
        )
        self.sampler = sampler  # hooks look for it here
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self._start, self._endless = 0, False

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def begin(self, start: int, *, endless: bool = False) -> None:
        """Set where the next iteration begins, and only that one.

        Args:
            start: Number of batches that it leaves out.
            endless: Whether epochs follow one another.
        """
        self._start, self._endless = start, endless

    def reseed(self, seed: int) -> None:
        """Take the seed of the run that is resumed, which was drawn."""
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
                    'none. Give fewer images a batch, or drop_last=False.'
                )
            if not endless:
                return
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch + 1)

    def _numbered(self, index: Any, epoch: int, draw: int) -> NumberedIndex:
        if isinstance(index, NumberedIndex):
            return index
        return NumberedIndex(operator.index(index), (self.seed, epoch, draw))


class SeededItems:
    """Takes the place of ``__getitems__`` of a data set.

    PyTorch's loaders ask it for the samples of a batch, in whatever process
    they load. The data set itself stays what it is for hooks and samplers.

    Args:
        dataset: Any data set with ``__getitem__``.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """Load samples, each with random numbers of its own."""
        samples = []
        for index in indices:
            with seeded(index):
                samples.append(self._dataset[int(index)])
        return samples


def build_loader(
    runner: Runner, config: Any, seed: int, loop: str
) -> DataLoader:
    """Build the runner's training loader with numbered batches.

    Args:
        runner: Of the run.
        config: ``train_dataloader``.
        seed: Of the run, the same in all processes.
        loop: Name of the loop, for errors.

    Raises:
        TypeError: If it is a loader already, or its data set is a stream.
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
    loader.dataset.__getitems__ = SeededItems(loader.dataset)
    return loader
