"""Batches that follow from their number, and the samples in them."""

import pickle

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from mmfrozen.loops.batches import (
    NumberedBatchSampler,
    SeededGetItems,
    build_loader,
)
from mmfrozen.seeds import NumberedIndex


class Draws:
    """A data set whose samples are random numbers."""

    loaded = 0

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.loaded += 1
        return index, torch.rand(1).item()


@DATASETS.register_module()
class Stream(IterableDataset):
    """Samples without numbers."""

    def __iter__(self):
        return iter(range(3))


def numbered(sampler=DefaultSampler, seed=3):
    return NumberedBatchSampler(
        sampler(Draws(), shuffle=True, seed=seed),
        3,
        batch_sampler=dict(type=BatchSampler, drop_last=True),
        seed=seed,
    )


def keys(batches):
    return [[(int(i), *i.key) for i in batch] for batch in batches]


def test_iteration_begins_at_any_batch_once():
    batches = numbered()
    whole = keys(batches)
    assert len(whole) == len(batches) == 3
    batches.begin(2)
    assert keys(batches) == whole[2:]
    assert keys(batches) == whole


def test_endless_iteration_goes_through_the_epochs():
    batches = numbered()
    epochs = []
    for epoch in range(3):
        batches.epoch = epoch
        batches.sampler.set_epoch(epoch)
        epochs += keys(batches)
    assert len({key[0] for batch in epochs[:3] for key in batch}) == 9
    batches.epoch = 0
    for start in (0, 4):
        batches.sampler.set_epoch(0)
        batches.begin(start, endless=True)
        iterator = iter(batches)
        found = keys(next(iterator) for _ in range(9 - start))
        assert found == epochs[start:]


@pytest.mark.parametrize('endless', [True, False])
def test_epoch_without_a_batch_is_refused(endless):
    batches = numbered()
    batches.batch_sampler.batch_size = 20
    batches.begin(0, endless=endless)
    with pytest.raises(ValueError, match='a batch in an epoch, got none'):
        list(batches)


def test_indices_that_are_numbered_already_are_kept():
    mine = NumberedIndex(4, (7, 7, 7))
    assert numbered()._numbered(mine, 0, 0) is mine


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
def test_reseeded_batches_are_those_of_that_seed(sampler):
    batches = numbered(sampler)
    batches.reseed(5)
    for one in (batches, numbered(sampler, 5)):
        one.begin(0, endless=True)
    a, b = iter(batches), iter(numbered(sampler, 5))
    assert keys([next(a), next(a)]) == keys([next(b), next(b)])


def samples(workers, start=0):
    """What a loader gives, and the data set that it loaded from."""
    batches, dataset = numbered(), Draws()
    dataset.__getitems__ = SeededGetItems(dataset)
    batches.begin(start)
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers)
    return [[x.tolist() for x in batch] for batch in loader], dataset


def test_samples_are_the_same_for_any_worker_and_start():
    whole, dataset = samples(0)
    assert len({x for _, drawn in whole for x in drawn}) == 9
    assert dataset.loaded == 9
    assert samples(2)[0] == whole
    sent = pickle.loads(pickle.dumps(dataset))  # as to a spawned worker
    assert sent.__getitems__._dataset is sent
    rest, dataset = samples(0, start=2)
    assert rest == whole[2:]
    assert dataset.loaded == 3, 'what is passed over is not loaded'


def test_loading_leaves_the_generators_alone_and_plain_indices_too():
    dataset = Draws()
    torch.manual_seed(1)
    expected = torch.rand(1).item()
    torch.manual_seed(1)
    SeededGetItems(dataset)([NumberedIndex(1, (1, 2, 3))])
    assert SeededGetItems(dataset)([4]) == [(4, expected)]


@pytest.mark.parametrize(
    'config, got',
    [
        (DataLoader(Draws()), 'got a DataLoader'),
        (dict(dataset=dict(type='Stream')), 'the stream Stream'),
        (dict(dataset=Stream()), 'the stream Stream'),
    ],
)
def test_loaders_without_numbered_samples_are_refused(config, got):
    with pytest.raises(TypeError, match=f'{got}.*=EpochBasedTrainLoop'):
        build_loader(None, config, 0, 'ResumableEpochBasedTrainLoop')
