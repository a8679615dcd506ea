"""Steps with losses of the long tail are traced without data or files."""

import pytest

from mmfrozen.cost.shape_mode import ShapeMode
from mmfrozen.tracing.training_step import trace_step
from mmfrozen.tracing.workload import Workload
from tests.configs.pack import PACK, load
from tests.tiny import tiny_config

WORK = Workload((64, 64), 'as set', 2, objects=4)


def flops(cfg, mode):
    traced = trace_step(cfg, WORK, mode=mode)
    return sum(c.flops.total for c in traced.components)


@pytest.fixture(scope='module')
def traced():
    """What one step has found out serves the others."""
    mode = ShapeMode()
    return mode, flops(tiny_config('-', '-', '-'), mode)


@pytest.mark.parametrize('name', ['federated', 'eqlv2', 'seesaw'])
def test_a_step_costs_what_one_of_cross_entropy_costs(name, traced):
    mode, expected = traced
    cfg = tiny_config('-', '-', '-')
    variant = load(PACK / f'frozen/mask_rcnn_r101_{name}_lvis.py')
    box_head = variant.model.roi_head.bbox_head
    for key in ('cls_predictor_cfg', 'loss_cls'):
        cfg.model.roi_head.bbox_head[key] = box_head[key]
    found = flops(cfg, mode)
    # objectness of Seesaw is a class more
    assert expected <= found < 1.01 * expected
