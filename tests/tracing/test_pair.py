"""Which config is compared with which, and in which state."""

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmfrozen.freezing import freeze
from mmfrozen.tracing.pair import apply_change, find_pair
from tests.tiny import ROOT

FROZEN = ROOT / 'configs/frozen/mask_rcnn_r101_lvis.py'
CONTROL = ROOT / 'configs/finetuned/mask_rcnn_r101_lvis.py'
STOCK = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'


def pair(*args):
    return [(one.label, one.config, one.change) for one in find_pair(*args)]


@pytest.mark.parametrize('config', (FROZEN, CONTROL))
def test_experiment_and_control_find_each_other(config):
    assert pair(str(config)) == [
        ('frozen', str(FROZEN), 'none'),
        ('fine-tuned', str(CONTROL), 'none'),
    ]


def test_hosts_config_is_frozen_and_thawed_in_memory():
    assert pair(STOCK) == [
        ('frozen', STOCK, 'freeze'),
        ('fine-tuned', STOCK, 'thaw'),
    ]
    assert pair(STOCK, 'as-written') == [
        ('frozen', STOCK, 'freeze'),
        ('as written', STOCK, 'none'),
    ]
    assert pair(str(FROZEN), STOCK) == [
        ('frozen', str(FROZEN), 'none'),
        ('control', STOCK, 'none'),
    ]


@pytest.mark.parametrize('scope', ['', 'mmdet.', 'mmfrozen.'])
def test_config_that_freezes_with_this_package_is_taken_as_it_is(
    tmp_path, scope
):
    path = tmp_path / 'mine.py'
    path.write_text(
        f"model = dict(type='D', backbone=dict(type='{scope}FrozenBackbone'))"
    )
    assert [change for *_, change in pair(str(path))] == ['none', 'thaw']


def test_anothers_class_of_that_name_freezes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'FrozenBackbone', nn.Identity)
    path = tmp_path / 'mine.py'
    path.write_text(
        "model = dict(type='D', backbone=dict(type='FrozenBackbone'))"
    )
    assert [change for *_, change in pair(str(path))] == ['freeze', 'thaw']


def test_missing_config_is_refused():
    with pytest.raises(FileNotFoundError, match="got 'nowhere.py'"):
        find_pair('nowhere.py')


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout())
        self.neck = nn.Conv2d(3, 3, 1)


def test_thawing_undoes_freezing():
    model = Detector()
    freeze(model.backbone)
    freeze(model.neck)
    model.train()
    assert not model.backbone[1].training
    apply_change(model, 'thaw')
    model.train()
    assert all(p.requires_grad for p in model.parameters())
    assert model.backbone[1].training
    apply_change(model, 'freeze')
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.neck.parameters())
    assert torch.is_grad_enabled()


def test_model_without_a_backbone_is_refused():
    with pytest.raises(ValueError, match='must have a backbone'):
        apply_change(nn.Linear(1, 1), 'freeze')
