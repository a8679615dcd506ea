"""The optimizer holds what trains, whatever the config asks of it."""

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmfrozen.freezing import freeze


def construct(model, paramwise_cfg=None, **optimizer):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='TrainableOptimWrapperConstructor',
            optim_wrapper_cfg=dict(
                type='OptimWrapper', optimizer=dict(type='AdamW', **optimizer)
            ),
            paramwise_cfg=paramwise_cfg,
        )
    )
    return constructor(model).optimizer


@pytest.fixture
def model():
    model = nn.Module()
    model.backbone = freeze(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    )
    model.neck = nn.BatchNorm2d(4)
    model.head = nn.Conv2d(4, 2, 1)
    return model


def held(optimizer):
    return {id(p) for g in optimizer.param_groups for p in g['params']}


@pytest.mark.parametrize(
    'paramwise_cfg',
    [
        None,
        dict(norm_decay_mult=0.0),
        dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
        dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
        dict(custom_keys=dict(head=dict(lr_mult=10))),
    ],
    ids=str,
)
def test_frozen_parameters_are_left_out_of_every_group(model, paramwise_cfg):
    optimizer = construct(model, paramwise_cfg, lr=0.1, weight_decay=0.5)
    trained = [*model.neck.parameters(), *model.head.parameters()]
    assert held(optimizer) == {id(p) for p in trained}
    assert all(group['params'] for group in optimizer.param_groups)


def test_options_by_parameter_stay_with_theirs(model):
    optimizer = construct(
        model,
        dict(custom_keys=dict(head=dict(lr_mult=10)), norm_decay_mult=0.0),
        lr=0.1,
        weight_decay=0.5,
    )
    options = {
        id(p): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert options[id(model.head.weight)] == (1.0, 0.5)
    assert options[id(model.neck.weight)] == (0.1, 0.0)


def test_weight_decay_does_not_reach_the_backbone(model):
    before = model.backbone[0].weight.clone()
    optimizer = construct(model, lr=0.1, weight_decay=0.5)
    head = model.head.weight.clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(model.backbone[0].weight, before)
    assert torch.allclose(model.head.weight, head * (1 - 0.1 * 0.5))


def test_state_of_a_run_loads_into_the_next(model):
    first = construct(model, lr=0.1)
    for group in first.param_groups:
        for parameter in group['params']:
            parameter.grad = torch.ones_like(parameter)
    first.step()
    second = construct(model, lr=0.1)
    second.load_state_dict(first.state_dict())
    assert len(second.state) == 4


def test_all_groups_stay_when_nothing_is_frozen(model):
    model.requires_grad_(True)
    assert len(held(construct(model, lr=0.1))) == 8


def test_model_of_which_nothing_trains_is_refused(model):
    model.requires_grad_(False)
    with pytest.raises(ValueError, match='model must have parameters'):
        construct(model, lr=0.1)
