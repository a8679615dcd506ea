"""A few real steps on one batch: what is new here learns."""

import pytest
import torch

from tests.configs.pack import PACK
from tests.configs.test_step import build_model, make_batch


@pytest.mark.parametrize(
    'name',
    [
        'mask_rcnn_lite0_bifpn_mini-lvis',
        'mask_rcnn_lite0_adapters_mini-lvis',
        'mask_rcnn_lite0_mini-lvis',
    ],
)
def test_loss_goes_down_and_the_backbone_stays(name):
    model = build_model(PACK / f'frozen/{name}.py')
    before = {
        key: tensor.clone()
        for key, tensor in model.backbone.state_dict().items()
        if not key.startswith('adapters.')
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    for _ in range(8):
        data = make_batch(model, size=96)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0], losses
    after = model.backbone.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
