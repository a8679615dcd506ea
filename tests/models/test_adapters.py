"""Adapters: the identity at first, trainable, and beside what is frozen."""

import copy
import pickle

import pytest
import torch
from mmdet.registry import MODELS

from mmfrozen.freezing import (
    LoadRecorder,
    changed_tensors,
    describe,
    fingerprint,
    stage_numbers,
)
from mmfrozen.reports.verify import verify
from tests.tiny import build as build_runner
from tests.tiny import tiny_config

BACKBONES = {
    'ResNet': dict(type='ResNet', depth=18),
    'ResNet-50': dict(type='ResNet', depth=50),
    'ResNet-RS': dict(type='TimmBackbone', model_name='resnetrs50'),
    'EfficientNet': dict(
        type='TimmBackbone', model_name='tf_efficientnet_lite0'
    ),
    "MMDetection's EfficientNet": dict(type='EfficientNet', arch='b0'),
    'Res2Net': dict(type='Res2Net', depth=50, scales=4, base_width=8),
}


def build(name, adapters=None, frozen=True):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='mmdet.FrozenBackbone',
            frozen=frozen,
            adapters=adapters,
            backbone=dict(BACKBONES[name], _scope_='mmdet'),
        )
    )


def stir(backbone):
    """Take the adapters away from the identity."""
    torch.manual_seed(1)
    for adapter in backbone.adapters.values():
        torch.nn.init.normal_(adapter.up.weight, std=0.1)
    return backbone


@pytest.fixture(params=BACKBONES)
def name(request):
    return request.param


IMAGE = torch.randn(2, 3, 64, 64)


def test_backbone_with_new_adapters_computes_what_it_did(name):
    plain, adapted = build(name), build(name, dict())
    adapted.load_state_dict(plain.state_dict(), strict=False)
    for a, b in zip(plain(IMAGE), adapted(IMAGE), strict=True):
        assert torch.equal(a, b)


def test_keys_of_the_frozen_part_are_mmdetections(name):
    plain, adapted = build(name), build(name, dict())
    rest = [k for k in adapted.state_dict() if not k.startswith('adapters.')]
    assert rest == list(plain.state_dict())


def test_only_adapters_train_and_all_of_them_get_gradients(name):
    backbone = stir(build(name, dict())).train()
    sum(x.square().mean() for x in backbone(IMAGE)).backward()
    for key, parameter in backbone.named_parameters():
        ours = key.startswith('adapters.')
        assert parameter.requires_grad == ours, key
        assert (parameter.grad is not None) == ours, key
    assert not any(
        module.training for module in backbone.modules() if module is not None
    )


def test_every_residual_block_has_one_of_the_width_asked_for(name):
    backbone = build(name, dict(reduction=4))
    blocks = {
        'ResNet': 8,
        'ResNet-50': 16,
        'ResNet-RS': 16,
        'EfficientNet': 16,
        "MMDetection's EfficientNet": 16,
        'Res2Net': 16,
    }[name]
    assert len(backbone.adapters) == blocks
    for adapter in backbone.adapters.values():
        assert adapter.down.out_channels == adapter.down.in_channels // 4


def test_first_stage_leaves_the_stages_before_it_alone():
    backbone = stir(build('ResNet', dict(first_stage=3))).train()
    assert {n.partition('-')[0] for n in backbone.adapters} == {
        'layer3',
        'layer4',
    }
    plain = build('ResNet')
    plain.load_state_dict(backbone.state_dict(), strict=False)
    levels, old = backbone(IMAGE), plain(IMAGE)
    assert [x.requires_grad for x in levels] == [False, False, True, True]
    same = [torch.equal(a, b) for a, b in zip(levels, old, strict=True)]
    assert same == [True, True, False, False]


def test_copy_and_pickle_use_their_own_adapters(name):
    backbone = stir(build(name, dict()))
    expected = backbone(IMAGE)
    for twin in (
        copy.deepcopy(backbone),
        pickle.loads(pickle.dumps(backbone)),
    ):
        stir(backbone).adapters.requires_grad_(True)
        for a, b in zip(twin(IMAGE), expected, strict=True):
            assert torch.equal(a, b)
        for adapter in twin.adapters.values():
            torch.nn.init.zeros_(adapter.up.weight)
        assert not torch.equal(twin(IMAGE)[-1], expected[-1])
        assert torch.equal(backbone(IMAGE)[-1], expected[-1])


def test_file_without_adapters_fills_the_whole_backbone(name):
    plain, adapted = build(name), stir(build(name, dict()))
    before = fingerprint(adapted.adapters)
    recorder = LoadRecorder(adapted)
    adapted.load_state_dict(plain.state_dict())  # strict
    assert recorder.stop() == []
    assert changed_tensors(before, fingerprint(adapted.adapters)) == []


def test_file_with_adapters_brings_them():
    one, other = stir(build('ResNet', dict())), build('ResNet', dict())
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(IMAGE)[-1], other(IMAGE)[-1])


def test_random_initialisation_of_the_backbone_leaves_them_the_identity():
    backbone = build('ResNet', dict(), frozen=False)
    backbone.init_weights()  # Kaiming in every Conv2d, ours too
    assert all(not a.up.weight.any() for a in backbone.adapters.values())
    assert all(a.down.weight.any() for a in backbone.adapters.values())


@pytest.mark.parametrize(
    ('backbone', 'adapters', 'message'),
    [
        ('ResNet', dict(reduction=0), 'reduction must be a positive .* got 0'),
        ('ResNet', dict(first_stage=5), 'in stages 5 to 4, got ResNet'),
        ('Swin', dict(), 'residual blocks of a ResNet .* got SwinTransformer'),
    ],
)
def test_adapters_that_have_no_place_are_refused(
    backbone, adapters, message, monkeypatch
):
    monkeypatch.setitem(
        BACKBONES, 'Swin', dict(type='SwinTransformer', embed_dims=24)
    )
    with pytest.raises(ValueError, match=message) as caught:
        build(backbone, adapters)
    assert 'model.backbone.adapters' in str(caught.value)


def shrink(cfg, checkpoint, frozen):
    cfg.model.backbone = dict(
        type='FrozenBackbone',
        frozen=frozen,
        adapters=dict(reduction=4),
        backbone=dict(
            type='ResNet',
            depth=18,
            init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)),
        ),
    )
    return cfg


@pytest.mark.parametrize('state', ['partial', 'finetuned'])
def test_guard_lets_adapters_train_and_holds_the_rest(
    state, tmp_path, mini_lvis, resnet18
):
    cfg = tiny_config(tmp_path, mini_lvis, resnet18)
    cfg = shrink(cfg, resnet18, frozen=state == 'partial')
    cfg.default_hooks.frozen_guard.state = state
    runner = build_runner(cfg)
    runner.train()
    classifier = torch.load(resnet18, weights_only=True)
    state_dict = runner.model.backbone.state_dict()
    same = [
        torch.equal(state_dict[k], v)
        for k, v in classifier.items()
        if k in state_dict
    ]
    assert all(same) == (state == 'partial')
    moved = [
        a.up.weight.any() for a in runner.model.backbone.adapters.values()
    ]
    assert any(moved)
    checkpoint = next(tmp_path.glob('epoch_*.pth'))
    result = verify(str(checkpoint), against=str(resnet18))
    assert (result.changed == []) == (state == 'partial')


def test_adapters_are_of_no_stage_and_described_by_themselves(name):
    plain, adapted = build(name), build(name, dict())
    assert stage_numbers(adapted) == stage_numbers(plain)
    model = torch.nn.Module()
    model.backbone = adapted
    *stages, last = describe(model.train())
    assert {row.status for row in stages} == {'frozen'}
    assert (last.name, last.status) == ('backbone.adapters', 'trained')
    counts = [row.parameters.total for row in (*stages, last)]
    assert sum(counts) == sum(p.numel() for p in adapted.parameters())
