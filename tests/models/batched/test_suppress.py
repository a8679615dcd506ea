"""Suppression of all groups at once is the sequential algorithm."""

import pytest
import torch
from torchvision.ops import nms

from mmfrozen.models.batched.suppress import suppress_groups


@pytest.mark.parametrize('threshold', [0.3, 0.7])
def test_groups_keep_what_sequential_suppression_keeps(threshold):
    torch.manual_seed(0)
    corners = torch.rand(4, 300, 4) * 60
    boxes = torch.cat(
        (corners[..., :2], corners[..., :2] + corners[..., 2:]), -1
    )
    kept = suppress_groups(boxes, threshold)
    for group, flags in zip(boxes, kept, strict=True):
        best_first = torch.linspace(1, 0, len(group))
        wanted = nms(group, best_first, threshold)
        assert flags.nonzero().flatten().tolist() == sorted(wanted.tolist())


def test_a_chain_longer_than_a_look_is_followed_to_its_end():
    left = torch.arange(100.0)[:, None] * 4
    boxes = torch.cat((left, left * 0, left + 10, left * 0 + 10), dim=1)
    kept = suppress_groups(boxes[None], 0.4)[0]  # neighbours overlap by 0.43
    assert kept.tolist() == [i % 2 == 0 for i in range(100)]
