"""MMDetection's SeesawLoss: the paper's formula, and both kinds of heads."""

import pytest
import torch
from mmdet.models.losses import SeesawLoss

from tests.models.batched.conftest import (
    assert_equal_steps,
    build_pair,
    config,
    make_batch,
)
from tests.models.batched.test_steps import boxes


def test_loss_is_that_of_the_paper():
    """Equations 4 to 7 of arXiv 2008.10032 for one object of class 1."""
    loss = SeesawLoss(num_classes=3, p=0.8, q=2.0)
    loss.cum_samples[:3] = torch.tensor([100.0, 9, 3])
    logits = torch.tensor([[1.0, 0.5, 2.0, 0.3, -0.2]])
    found = loss(logits, torch.tensor([1]))  # with it, class 1 has 10
    sigma = logits[0, :3].softmax(0)
    mitigation = torch.tensor([1, 1, (3 / 10) ** 0.8])
    compensation = torch.tensor(
        [(sigma[0] / sigma[1]) ** 2, 1, (sigma[2] / sigma[1]) ** 2]
    )
    seesaw = mitigation * compensation
    assert (seesaw != 1).sum() == 2
    exp = logits[0, :3].exp()
    expected = -torch.log(exp[1] / (seesaw * exp).sum())
    torch.testing.assert_close(found['loss_cls_classes'], expected)
    objectness = -logits[0, 3:].log_softmax(0)[0]
    torch.testing.assert_close(found['loss_cls_objectness'], objectness)


def seesaw(cascade=False):
    return config(
        cascade,
        box_head=dict(
            cls_predictor_cfg=dict(type='NormedLinear', tempearture=20),
            loss_cls=dict(type='SeesawLoss', num_classes=7),
        ),
    )


@pytest.mark.parametrize('cascade', [False, True])
def test_batched_heads_take_the_step_of_stock_heads(cascade):
    losses = assert_equal_steps(
        seesaw(cascade), make_batch([boxes(5, 0), boxes(9, 1)])
    )
    names = {n.rpartition('.')[2] for n in losses}
    assert {'loss_cls_classes', 'loss_cls_objectness'} <= names


def test_batched_heads_predict_as_stock_heads():
    batch, found = make_batch([boxes(3, 0)]), []
    for model in build_pair(seesaw()):
        model.eval()
        data = model.data_preprocessor(batch)
        with torch.no_grad():
            (sample,) = model.predict(data['inputs'], data['data_samples'])
        found.append(sample.pred_instances)
    assert torch.equal(found[0].labels, found[1].labels)
    torch.testing.assert_close(found[0].scores, found[1].scores)
