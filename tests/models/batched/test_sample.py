"""Sampling for a batch is MMDetection's in distribution."""

import pytest
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import RandomSampler
from mmengine.structures import InstanceData

from mmfrozen.models.batched.sample import sample

DRAWS = 4000


def wanted(sampler, assigned):
    """How often MMDetection takes each candidate, and how many of each."""
    count = len(assigned)
    taken = torch.zeros(2, count)
    priors = InstanceData(priors=torch.rand(count, 4))
    objects = InstanceData(
        bboxes=torch.rand(3, 4), labels=torch.zeros(3, dtype=torch.long)
    )
    numbers = set()
    for _ in range(DRAWS):
        result = AssignResult(3, assigned, None, assigned.clone())
        found = sampler.sample(result, priors, objects)
        taken[0, found.pos_inds] += 1
        taken[1, found.neg_inds] += 1
        numbers.add((len(found.pos_inds), len(found.neg_inds)))
    return taken / DRAWS, numbers


def found(sampler, assigned):
    keys = torch.rand(DRAWS, len(assigned))
    index, positive, negative = sample(
        sampler, assigned.expand(DRAWS, -1), keys
    )
    taken = torch.zeros(2, len(assigned))
    for row, flags in enumerate((positive, negative)):
        taken[row] = torch.bincount(index[flags], minlength=len(assigned))
        for one, flag in zip(index[:50], flags[:50], strict=True):
            assert len(one[flag].unique()) == flag.sum(), 'no one twice'
    numbers = set(
        zip(positive.sum(1).tolist(), negative.sum(1).tolist(), strict=True)
    )
    return taken / DRAWS, numbers


@pytest.mark.parametrize('most_negative', [-1, 2])
@pytest.mark.parametrize(
    'positives, negatives, neither',
    [(9, 30, 5), (2, 30, 0), (9, 4, 3), (0, 30, 2)],
)
def test_each_candidate_is_taken_as_often_as_by_mmdetection(
    positives, negatives, neither, most_negative
):
    torch.manual_seed(0)
    assigned = torch.tensor([1] * positives + [0] * negatives + [-1] * neither)
    assigned = assigned[torch.randperm(len(assigned))]
    sampler = RandomSampler(
        16, 0.25, neg_pos_ub=most_negative, add_gt_as_proposals=False
    )
    shares, numbers = wanted(sampler, assigned)
    ours, our_numbers = found(sampler, assigned)
    assert our_numbers == numbers
    # four standard errors of a share of one half, twice
    assert (ours - shares).abs().max() < 4 * (0.5 / DRAWS) ** 0.5
