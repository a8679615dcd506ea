"""Batched version of MMDetection's ``RandomSampler``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.task_modules.samplers import RandomSampler
from torch import Tensor


class Sample(NamedTuple):
    """Slots for positive samples, followed by slots for negative ones.

    Attributes:
        index: (N, S) int64, index of the anchor or proposal.
        positive: (N, S) bool, whether the slot holds a positive.
        negative: (N, S) bool, whether it holds a negative; slots that hold
            neither are empty.
    """

    index: Tensor
    positive: Tensor
    negative: Tensor


def sampler_fallback_reason(sampler: Any) -> str | None:
    """Return why a sampler has no batched form; None if it has one."""
    if type(sampler) is not RandomSampler:
        return f'sampler {type(sampler).__name__}'
    return None


def sample(sampler: RandomSampler, assigned: Tensor, keys: Tensor) -> Sample:
    """Sample from a batch as MMDetection's ``RandomSampler`` does.

    MMDetection permutes the candidates of each image. Here the candidates with
    the largest random numbers are taken, which has the same distribution and
    does not need the number of candidates on the CPU.

    Args:
        sampler: MMDetection's sampler, which provides the settings.
        assigned: (N, P), the result of :func:`~.assign.assign`.
        keys: (N, P), random in [0, 1).
    """
    count = assigned.shape[1]
    quota = min(int(sampler.num * sampler.pos_fraction), count)
    key, positive = keys.where(assigned > 0, -1).topk(quota)
    is_positive = key >= 0
    found = is_positive.sum(dim=1, keepdim=True)
    wanted = sampler.num - found
    if sampler.neg_pos_ub >= 0:
        limit = (found.clamp(min=1) * sampler.neg_pos_ub).long()
        wanted = torch.minimum(wanted, limit)
    key, negative = keys.where(assigned == 0, -1).topk(min(sampler.num, count))
    place = torch.arange(negative.shape[1], device=assigned.device)
    is_negative = (key >= 0) & (place < wanted)
    return Sample(
        torch.cat((positive, negative), dim=1),
        F.pad(is_positive, (0, is_negative.shape[1])),
        F.pad(is_negative, (quota, 0)),
    )
