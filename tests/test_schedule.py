"""A longer or shorter run has the same curve of the learning rate."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mmfrozen.schedule import length_of, stretch
from tests.tiny import ROOT

DEMO = ROOT / 'configs/frozen/mask_rcnn_lite0_mini-lvis.py'
REAL = ROOT / 'configs/frozen/mask_rcnn_r101_lvis.py'


def rates(cfg, per_epoch=1):
    """The rate of every step, by mmengine's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedulers = []
    for options in cfg.param_scheduler:
        build = dict(options, optimizer=optimizer)
        is_epochs = build['by_epoch']
        schedulers.append((PARAM_SCHEDULERS.build(build), is_epochs))
    found = []
    for step in range(length_of(cfg)[1] * per_epoch):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler, is_epochs in schedulers:
            if not is_epochs or (step + 1) % per_epoch == 0:
                scheduler.step()
    return np.array(found)


@pytest.mark.parametrize('factor', [0.3, 1.37, 2.0])
@pytest.mark.parametrize('config, per_epoch', [(DEMO, 1), (REAL, 50)])
def test_curve_of_the_rate_keeps_its_shape_and_its_end(
    config, per_epoch, factor
):
    cfg = Config.fromfile(config)
    before = rates(cfg, per_epoch)
    old = length_of(cfg)[1]
    cfg.merge_from_dict(stretch(cfg, factor))
    after = rates(cfg, per_epoch)
    assert length_of(cfg)[1] == int(old * factor)
    assert after[-1] == pytest.approx(before[-1], abs=1e-3)
    places = np.linspace(0, 1, 40)[1:-1]
    a, b = (
        np.interp(places, np.linspace(0, 1, len(x)), x)
        for x in (before, after)
    )
    near = np.isclose(a, b, atol=0.04)
    # one point may lie on the other side of a step of the curve
    assert near.sum() >= len(places) - 2


def test_evaluation_at_the_end_stays_at_the_end_and_others_where_they_are():
    demo, real = Config.fromfile(DEMO), Config.fromfile(REAL)
    assert stretch(demo, 1.5)['train_cfg.val_interval'] == 525
    assert 'train_cfg.val_interval' not in stretch(real, 1.5)


def test_schedulers_of_several_optimizers_and_without_an_end_are_kept_apart():
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=10),
            param_scheduler=dict(
                a=[dict(type='MultiStepLR', milestones=[4, 8], end=10**9)],
                b=dict(type='StepLR', step_size=5),
            ),
        )
    )
    assert stretch(cfg, 0.5) == {
        'train_cfg.max_epochs': 5,
        'param_scheduler.a.0.end': 10**9,
        'param_scheduler.a.0.milestones': [2, 4],
        'param_scheduler.b.step_size': 2,
    }


@pytest.mark.parametrize(
    'train, factor, got',
    [
        (dict(max_iters=3), 0.1, '1 of its 3 max_iters'),
        (dict(type='Loop'), 1.0, "got {'type': 'Loop'}"),
    ],
)
def test_length_that_is_nothing_or_not_stated_is_refused(train, factor, got):
    with pytest.raises(ValueError, match=r'must have') as error:
        stretch(Config(dict(train_cfg=train)), factor)
    assert got in str(error.value) and '\n' not in str(error.value)
