"""Backbones that fill themselves, wherever they do it."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.models import ResNet
from mmdet.registry import MODELS

from mmfrozen.hooks.guard.second_build import loaded_fraction
from tests.tiny import build, tiny_config


def fill(module, file):
    """As many wrappers do: no load_state_dict, each tensor by itself."""
    source = torch.load(file)
    for name, tensor in module.state_dict().items():
        tensor.copy_(source[name])


@MODELS.register_module()
class FillsInConstructor(ResNet):
    """A research backbone: its weights are an argument of its own."""

    def __init__(self, weights, **options):
        super().__init__(**options)
        fill(self, weights)

    def init_weights(self):
        """Nothing is left to do."""


@MODELS.register_module()
class FillsInInitWeights(ResNet):
    """The same, a moment later."""

    def __init__(self, weights, **options):
        super().__init__(**options)
        self.weights = weights

    def init_weights(self):
        """Fill what the config says."""
        fill(self, self.weights)


@MODELS.register_module()
class FillsNothing(FillsInConstructor):
    """Takes the argument and forgets it."""

    def __init__(self, weights, **options):
        ResNet.__init__(self, **options)


def config_of(cls, tmp_path, mini_lvis, resnet18, state):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18, state)
    cfg.model.backbone.pop('init_cfg', None)
    cfg.model.backbone.update(type=cls, weights=str(resnet18))
    cfg.train_cfg.max_epochs = 1
    return cfg


def refused(cfg, *words):
    with pytest.raises(ValueError) as caught:
        build(cfg).train()
    message = str(caught.value).splitlines()[-1]
    for word in words:
        assert word in message, message


@pytest.mark.parametrize('cls', ['FillsInConstructor', 'FillsInInitWeights'])
def test_backbone_that_fills_itself_runs_frozen_and_is_recorded(
    cls, tmp_path, mini_lvis, resnet18
):
    cfg = config_of(cls, tmp_path, mini_lvis, resnet18, 'frozen')
    build(cfg).train()
    record = json.loads(Path(cfg.work_dir, 'backbone.json').read_text())
    assert record['classifier'].startswith(f'{cls}(')
    assert f'weights={str(resnet18)!r}' in record['classifier']
    assert record['verified_iter'] is not None


def test_seeds_of_gpus_and_of_the_cpu_stay_as_they_were(
    tmp_path, mini_lvis, resnet18, monkeypatch
):
    seeds = []
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeds.append)
    backbone = config_of(
        'FillsInConstructor', tmp_path, mini_lvis, resnet18, 'scratch'
    ).model.backbone
    module, before = MODELS.build(backbone), torch.get_rng_state()
    assert loaded_fraction(module, backbone) == 1
    assert seeds == [] and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize('cls', ['FillsInConstructor', 'FillsInInitWeights'])
def test_backbone_that_fills_itself_is_no_control_from_scratch(
    cls, tmp_path, mini_lvis, resnet18
):
    cfg = config_of(cls, tmp_path, mini_lvis, resnet18, 'scratch')
    refused(cfg, 'random from scratch', '100%', cls)


def test_backbone_that_fills_nothing_is_refused_frozen(
    tmp_path, mini_lvis, resnet18
):
    cfg = config_of('FillsNothing', tmp_path, mini_lvis, resnet18, 'frozen')
    refused(cfg, 'must fill itself', '60 tensors random')


def test_advice_names_the_key_inside_a_frozen_backbone(
    tmp_path, mini_lvis, resnet18
):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    backbone = cfg.model.backbone
    del backbone['init_cfg'], backbone['frozen_stages'], backbone['norm_eval']
    cfg.model.backbone = dict(type='FrozenBackbone', backbone=backbone)
    refused(cfg, 'model.backbone.backbone.init_cfg')


def test_partial_run_takes_its_weights_from_load_from_alone(
    tmp_path, mini_lvis, resnet18
):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    cfg.train_cfg.max_epochs = 1
    detector = build(cfg).model
    detector.init_weights()
    cfg.load_from = str(tmp_path / 'detector.pth')
    torch.save(detector.state_dict(), cfg.load_from)
    backbone = cfg.model.backbone
    del backbone['init_cfg'], backbone['frozen_stages'], backbone['norm_eval']
    cfg.model.backbone = dict(
        type='FrozenBackbone', frozen_stages=2, backbone=backbone
    )
    cfg.default_hooks.frozen_guard.state = 'partial'
    cfg.work_dir = str(tmp_path / 'partial')
    build(cfg).train()
    record = json.loads(Path(cfg.work_dir, 'backbone.json').read_text())
    assert record['classifier'] == cfg.load_from
