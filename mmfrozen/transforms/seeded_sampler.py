"""Seed the random numbers of a sample by its index, not by its worker."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from mmdet import registry as mmdet
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from .. import registry
from ..seeds import NumberedIndex


@registry.DATA_SAMPLERS.register_module()
class NumberedSampler(Sampler):
    """Any sampler, whose indices carry the number of their draw.

    What MMDetection lacks: its transforms draw from generators that belong to
    a worker, so that the augmented images change with the number of workers
    and of processes. Indices of this sampler say which draw of which epoch
    they are; ``CopyPasteDataset`` seeds Python's, numpy's and torch's
    generators from it for each sample, and gives them back as they were.
    So every transform, MMDetection's too, does the same with any number of
    workers.

    Args:
        dataset: To sample; the runner gives it.
        sampler: Config of the sampler that chooses.
        seed: Of the run; the runner gives it.

    Example config::

        sampler=dict(
            type='mmfrozen.NumberedSampler',
            sampler=dict(type='DefaultSampler', shuffle=True))
    """

    def __init__(
        self, dataset: Sized, sampler: dict, *, seed: int | None = None
    ) -> None:
        self.dataset = dataset  # which batch samplers ask for
        self.sampler = mmdet.DATA_SAMPLERS.build(
            sampler, default_args=dict(dataset=dataset, seed=seed)
        )
        # which MMDetection has synchronised over the processes, if it was None
        self.seed = getattr(self.sampler, 'seed', None) or seed or 0
        self.epoch = 0

    def __iter__(self) -> Iterator[NumberedIndex]:
        rank, world_size = get_dist_info()
        for number, index in enumerate(self.sampler):
            draw = number * world_size + rank  # MMDetection deals in turns
            yield NumberedIndex(index, (self.seed, self.epoch, draw))

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; the runner's hook calls it."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)
