"""A sampler for random seeds that depend on the sample, not on the worker."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from mmdet import registry as mmdet
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from .. import registry
from ..seeds import NumberedIndex


@registry.DATA_SAMPLERS.register_module()
class NumberedSampler(Sampler):
    """A wrapper of any sampler whose indices carry the number of their draw.

    What MMDetection lacks: its transforms draw from random generators that
    belong to a worker, so that the augmented images change with the number of
    workers and processes. Indices of this sampler carry their epoch and draw
    number; ``CopyPasteDataset`` seeds Python's, numpy's and torch's generators
    from it for each sample, and restores them afterwards. So every transform,
    including MMDetection's, gives the same result with any number of workers.

    Args:
        dataset: Dataset to sample; passed by the runner.
        sampler: Config of the wrapped sampler.
        seed: Seed of the run; passed by the runner.

    Example config::

        sampler=dict(
            type='mmfrozen.NumberedSampler',
            sampler=dict(type='DefaultSampler', shuffle=True))
    """

    def __init__(
        self, dataset: Sized, sampler: dict, *, seed: int | None = None
    ) -> None:
        self.dataset = dataset  # read by batch samplers
        self.sampler = mmdet.DATA_SAMPLERS.build(
            sampler, default_args=dict(dataset=dataset, seed=seed)
        )
        # without a seed, the sampler draws one and shares it between processes
        self.seed = getattr(self.sampler, 'seed', None) or seed or 0
        self.epoch = 0

    def __iter__(self) -> Iterator[NumberedIndex]:
        rank, world_size = get_dist_info()
        for number, index in enumerate(self.sampler):
            draw = number * world_size + rank  # unique among all ranks
            yield NumberedIndex(index, (self.seed, self.epoch, draw))

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch; called by the runner's hook."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)
