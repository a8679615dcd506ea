"""EQLv2 is MMDetection's loss, with a sigmoid at prediction."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses import EQLV2Loss

from mmfrozen.models.losses import EQLv2
from tests.models.batched.conftest import (
    assert_equal_steps,
    build_pair,
    config,
    make_batch,
)
from tests.models.batched.test_steps import boxes


def steps(loss, count=4):
    """Loss and gradient of several steps, whose weights follow from those
    before."""
    torch.manual_seed(0)
    found = []
    for _ in range(count):
        logits = torch.randn(12, 6, requires_grad=True)
        value = loss(logits, torch.randint(0, 6, (12,)))
        found.append((value, *torch.autograd.grad(value, logits)))
    return found


def test_loss_gradient_and_state_are_those_of_mmdetection():
    ours, theirs = EQLv2(num_classes=5), EQLV2Loss(num_classes=5)
    torch.testing.assert_close(steps(ours), steps(theirs))
    for buffer, expected in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.equal(buffer, expected)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_second_step_is_that_of_the_paper():
    """Section 3.3 of arXiv 2012.08548: r = 1 + alpha (1 - f(g)) weighs
    positives, f(g) = 1 / (1 + exp(-gamma (g - mu))) negatives, g the ratio of
    what positives and negatives have had of gradient."""
    loss = EQLv2(num_classes=1)
    labels, logits = torch.tensor([0, 1, 1]), torch.zeros(3, 2)
    first = loss(logits, labels)
    # all weights are 1; every sigmoid is 0.5
    torch.testing.assert_close(first, 2 * torch.log(torch.tensor(2.0)))
    g = torch.tensor(0.5 / (0.5 + 0.5))
    negative = 1 / (1 + torch.exp(-12 * (g - 0.8)))
    positive = 1 + 4 * (1 - negative)
    logits = torch.tensor([[1.0, -1], [0, 2], [-2, 0.5]])
    bce = F.binary_cross_entropy_with_logits(
        logits, torch.tensor([[1.0, 0], [0, 1], [0, 1]]), reduction='none'
    )
    weights = torch.tensor([[positive, 1], [negative, 1], [negative, 1]])
    expected = (bce * weights).sum() / 3
    torch.testing.assert_close(loss(logits, labels), expected)


def test_half_precision_sums_gradients_in_full():
    half, full = EQLv2(num_classes=5), EQLv2(num_classes=5)
    logits, labels = torch.randn(9, 6).bfloat16(), torch.arange(9) % 6
    with torch.autocast('cpu', torch.bfloat16):
        found = half(logits, labels)
    torch.testing.assert_close(found, full(logits.float(), labels))
    torch.testing.assert_close(half.pos_neg, full.pos_neg)


def test_nothing_of_a_step_is_kept():
    loss = EQLv2(num_classes=5)
    logits = 2 * torch.randn(3, 6, requires_grad=True)
    loss(logits, torch.arange(3))
    copy.deepcopy(loss)  # which a graph would refuse


def equalized(cascade=False, **options):
    return config(
        cascade,
        box_head=dict(
            cls_predictor_cfg=dict(
                type='mmfrozen.PriorLinear', prior_prob=0.001
            ),
            loss_cls=dict(type='mmfrozen.EQLv2', num_classes=7, **options),
        ),
    )


def test_batched_heads_take_the_step_of_stock_heads():
    losses = assert_equal_steps(
        equalized(cascade=True), make_batch([boxes(5, 0), boxes(9, 1)])
    )
    names = {n.rpartition('.')[2] for n in losses}
    assert {'loss_cls', 'acc_classes'} <= names and 'acc' not in names


@pytest.mark.parametrize('with_background', [True, False])
def test_both_heads_predict_with_a_sigmoid(with_background):
    for model in build_pair(equalized(test_with_obj=with_background)):
        head = model.roi_head.bbox_head
        torch.nn.init.zeros_(head.fc_cls.weight)
        torch.nn.init.constant_(head.fc_cls.bias, -1)
        model.eval()
        data = model.data_preprocessor(make_batch([boxes(3, 0)]))
        with torch.no_grad():
            found = model.predict(data['inputs'], data['data_samples'])
        p = torch.tensor(-1.0).sigmoid()
        expected = p * (1 - p) if with_background else p
        torch.testing.assert_close(
            found[0].pred_instances.scores, expected.expand(20)
        )


def test_number_of_classes_is_that_of_the_head():
    settings = equalized()
    settings.roi_head.bbox_head.loss_cls.pop('num_classes')
    with pytest.raises(
        ValueError,
        match='EQLv2.num_classes must be the 7 of its head, got 1203. Set it',
    ):
        build_pair(settings)


def test_gradients_are_summed_over_processes(monkeypatch):
    alone, together = EQLv2(num_classes=5), EQLv2(num_classes=5)
    steps(alone, 1)
    monkeypatch.setattr(
        'mmfrozen.models.losses.eqlv2.is_distributed', lambda: True
    )
    # another process with the same regions
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda t: t.mul_(2))
    steps(together, 1)
    torch.testing.assert_close(together.pos_grad, 2 * alone.pos_grad)
    torch.testing.assert_close(together.neg_grad, 2 * alone.neg_grad)
