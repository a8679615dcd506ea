"""First frozen, then thawed from the frozen run's checkpoint."""

import re

import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.hooks import Hook

from mmfrozen.freezing import changed_tensors, fingerprint
from tests.tiny import ROOT, build, tiny_config

DOCS = (ROOT / 'docs/freezing.md').read_text()


@HOOKS.register_module()
class FirstWeights(Hook):
    """Fingerprints the model before its first step."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            FirstWeights.seen = fingerprint(runner.model)


def test_thawed_run_starts_where_the_frozen_one_ended_and_trains_it_all(
    tmp_path, mini_lvis, resnet18
):
    first = tiny_config(tmp_path / 'frozen', mini_lvis, resnet18)
    second = tiny_config(tmp_path / 'thawed', mini_lvis, resnet18, 'finetuned')
    first.train_cfg.max_epochs = second.train_cfg.max_epochs = 1
    runner = build(first)
    runner.train()
    ended = fingerprint(runner.model)
    second.load_from = str(tmp_path / 'frozen/epoch_1.pth')
    second.custom_hooks.append(dict(type='FirstWeights'))
    runner = build(second)
    runner.train()
    assert changed_tensors(ended, FirstWeights.seen) == []
    moved = changed_tensors(ended, fingerprint(runner.model))
    parameters = {
        f'backbone.{n}' for n, _ in runner.model.backbone.named_parameters()
    }
    assert parameters <= set(moved)


@pytest.fixture
def thawed():
    return Config.fromfile(ROOT / 'configs/thawed/mask_rcnn_r101_lvis.py')


def test_thawed_config_trains_every_stage_at_a_tenth_of_the_rate(thawed):
    frozen = Config.fromfile(ROOT / 'configs/frozen/mask_rcnn_r101_lvis.py')
    rates = [c.optim_wrapper.optimizer.lr for c in (frozen, thawed)]
    assert rates[1] == pytest.approx(rates[0] / 10)
    assert thawed.train_cfg.max_epochs == thawed.param_scheduler[1].end == 12
    with torch.device('meta'):
        backbone = MODELS.build(thawed.model.backbone)
    assert all(p.requires_grad for p in backbone.parameters())


def test_page_lists_the_stages_of_every_class():
    from .table import ROWS

    for row in ROWS.values():
        if row.config['type'] != 'TimmBackbone':
            assert re.search(rf'^\|.*\b{row.config["type"]}\b', DOCS, re.M)
