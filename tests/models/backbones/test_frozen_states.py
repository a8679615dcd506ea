"""The six meanings of "frozen", for three kinds of backbone."""

import pytest
import torch
from mmdet.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmfrozen.freezing import (
    LoadRecorder,
    changed_tensors,
    find_faults,
    fingerprint,
)

BACKBONES = {
    'stock ResNet': dict(
        type='ResNet',
        depth=18,
        frozen_stages=4,
        norm_eval=True,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
    'timm EfficientNet': dict(
        type='FrozenBackbone',
        backbone=dict(
            type='TimmBackbone',
            model_name='tf_efficientnet_lite0',
            model_args=dict(drop_path_rate=0.5),
        ),
    ),
    'Swin with stochastic depth': dict(
        type='FrozenBackbone',
        backbone=dict(
            type='SwinTransformer',
            embed_dims=24,
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 1, 1),
            drop_path_rate=0.5,
            frozen_stages=2,
        ),
    ),
    'host EfficientNet with SyncBN': dict(
        type='FrozenBackbone',
        backbone=dict(
            type='EfficientNet',
            arch='b0',
            drop_path_rate=0.5,
            frozen_stages=0,
            norm_eval=False,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
        ),
    ),
}


@pytest.fixture(params=BACKBONES, ids=str)
def detector(request):
    """A frozen backbone and a head that trains, in training mode."""
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = MODELS.build(BACKBONES[request.param])
    with torch.no_grad():
        channels = model.backbone(torch.zeros(1, 3, 64, 64))[-1].shape[1]
    model.head = nn.Conv2d(channels, 2, 1)
    return model.train()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64)


def test_no_parameter_requires_grad_from_construction_on(detector):
    assert not any(p.requires_grad for p in detector.backbone.parameters())


def test_no_running_statistic_moves(detector, images):
    before = fingerprint(detector.backbone)
    for _ in range(2):
        detector.train()
        detector.backbone(images)
    assert changed_tensors(before, fingerprint(detector.backbone)) == []


def test_training_mode_computes_what_evaluation_does(detector, images):
    trained = detector.train().backbone(images)
    evaluated = detector.eval().backbone(images)
    for a, b in zip(trained, evaluated, strict=True):
        assert torch.equal(a, b)


def test_backbone_keeps_nothing_for_a_backward_pass(detector, images):
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        features = detector.backbone(images)
        assert kept == [] and not features[-1].requires_grad
        detector.head(features[-1])
    assert kept, 'the head does keep something'


def test_optimizer_holds_what_trains_and_nothing_else(detector):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='TrainableOptimWrapperConstructor',
            optim_wrapper_cfg=dict(
                type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)
            ),
        )
    )
    optimizer = constructor(detector).optimizer
    held = [p for group in optimizer.param_groups for p in group['params']]
    assert {id(p) for p in held} == {id(p) for p in detector.head.parameters()}


def test_weights_are_bitwise_the_same_after_ten_steps(detector, images):
    before = fingerprint(detector.backbone)
    head = fingerprint(detector.head)
    optimizer = torch.optim.AdamW(detector.parameters(), weight_decay=0.1)
    for _ in range(10):
        detector.train()
        detector.head(detector.backbone(images)[-1]).square().sum().backward()
        optimizer.step()
    assert changed_tensors(before, fingerprint(detector.backbone)) == []
    assert len(changed_tensors(head, fingerprint(detector.head))) == 2


def test_frozen_backbone_shows_no_fault_in_training_mode(detector):
    assert find_faults(detector.backbone) == []


def test_recorder_sees_a_strict_load_of_the_whole_backbone(detector):
    recorder = LoadRecorder(detector.backbone)
    detector.load_state_dict(detector.state_dict())
    assert recorder.stop() == []


@pytest.mark.parametrize('frozen', [True, False])
def test_wrapper_leaves_the_hosts_class_and_keys(frozen):
    inner = BACKBONES['Swin with stochastic depth']['backbone']
    host = MODELS.build(inner)
    ours = MODELS.build(
        dict(type='FrozenBackbone', frozen=frozen, backbone=inner)
    )
    assert type(ours) is type(host)
    assert ours.state_dict().keys() == host.state_dict().keys()


def test_control_trains_all_but_running_statistics():
    inner = BACKBONES['timm EfficientNet']['backbone']
    control = MODELS.build(
        dict(
            type='FrozenBackbone', frozen=False, norm_eval=True, backbone=inner
        )
    )
    control.train()
    assert all(p.requires_grad for p in control.parameters())
    mean = control.model.bn1.running_mean.clone()
    control(torch.randn(2, 3, 64, 64))
    assert torch.equal(control.model.bn1.running_mean, mean)


def test_frozen_backbone_that_moves_statistics_is_refused():
    with pytest.raises(ValueError, match='norm_eval must be True'):
        MODELS.build(
            dict(
                type='FrozenBackbone',
                norm_eval=False,
                backbone=BACKBONES['stock ResNet'],
            )
        )
