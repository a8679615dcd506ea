"""What is done once for images that are alike."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmfrozen.cost.shape_mode import ShapeMode
from mmfrozen.tracing.memoize import CachedCalls


@pytest.fixture
def calls():
    return []


@pytest.fixture
def assign(calls):
    def function(priors, gt_instances, ignored=None):
        calls.append(priors)
        return priors.exp().add(len(gt_instances))

    return CachedCalls(function)


def image(*labels):
    return InstanceData(labels=torch.tensor(labels))


def test_equal_images_are_computed_once_and_get_results_of_their_own(
    assign, calls
):
    with ShapeMode():
        first, second = (
            assign(torch.ones(3), image(1, 2), ignored=None) for _ in range(2)
        )
    assert len(calls) == 1
    assert torch.equal(first, second)
    first.zero_()
    with ShapeMode():
        assert torch.equal(assign(torch.ones(3), image(1, 2)), second)


@pytest.mark.parametrize(
    'other',
    (
        (torch.zeros(3), image(1, 2)),
        (torch.ones(4), image(1, 2)),
        (torch.ones(3).double(), image(1, 2)),
        (torch.ones(3), image(1, 3)),
        (torch.ones(3), image(1)),
        (torch.ones(3), image(1, 2), 'x'),
        (torch.ones(3), InstanceData(other=torch.tensor([1, 2]))),
    ),
)
def test_what_differs_is_computed(assign, calls, other):
    with ShapeMode():
        assign(torch.ones(3), image(1, 2))
        found = assign(*other)
    assert len(calls) == 2
    assert torch.equal(found, other[0].exp() + len(other[1]))


def test_operators_are_reported_for_every_image(assign):
    reported = []
    with ShapeMode() as mode:
        mode.recorders = [lambda func, args, out: reported.append(func)]
        for _ in range(3):
            assign(torch.ones(3), image(1, 2))
    names = [func.overloadpacket for func in reported]
    assert names.count(torch.ops.aten.exp) == 3
    assert names.count(torch.ops.aten.add) == 3


def test_without_a_mode_everything_runs(assign, calls):
    for _ in range(2):
        assign(torch.ones(3), image(1, 2))
    assert len(calls) == 2
