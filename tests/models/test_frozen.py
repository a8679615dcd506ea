"""Freezing a backbone, a neck or a head in part, from the config."""

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from timm.models import VisionTransformer

from mmfrozen.freezing import (
    LoadRecorder,
    changed_tensors,
    describe,
    find_faults,
    fingerprint,
    num_stages,
    stage_numbers,
)
from tests.models.necks.test_nas_fpn import build_mask_rcnn

from .backbones.table import ROWS

RESNET = dict(type='ResNet', depth=18, base_channels=8)
FPN = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5)


def build(kind='FrozenBackbone', **options):
    return MODELS.build(ConfigDict(type=kind, **options))


def trainable(module):
    return {n for n, p in module.named_parameters() if p.requires_grad}


def refused(*words, **options):
    with pytest.raises(ValueError) as caught:
        build(**options)
    message = str(caught.value)
    assert '\n' not in message
    for word in (*words, 'must', 'got'):
        assert word in message, message


def test_named_layers_are_frozen_with_all_inside_them_and_nothing_else():
    backbone = build(
        backbone=RESNET, frozen=['conv1', 'layer[12]', '*.bn2.weight']
    )
    trains = trainable(backbone)
    assert 'bn1.weight' in trains and 'layer3.0.conv1.weight' in trains
    assert not any(n.startswith(('conv1', 'layer1', 'layer2')) for n in trains)
    assert not any(n.endswith('bn2.weight') for n in trains)
    assert {n for n in trains if n.endswith('bn2.bias')}


def test_part_that_is_frozen_keeps_its_statistics_and_the_rest_moves():
    backbone = build(
        backbone=RESNET, frozen=['layer1', 'layer2.0'], norm_eval=False
    )
    backbone.train()
    before = fingerprint(backbone)
    backbone(torch.randn(2, 3, 64, 64))
    moved = changed_tensors(before, fingerprint(backbone))
    assert 'bn1.running_mean' in moved and 'layer2.1.bn1.running_var' in moved
    assert not any(n.startswith(('layer1.', 'layer2.0.')) for n in moved)
    assert find_faults(backbone.layer1) == []


def test_norm_eval_of_the_wrapper_is_what_counts():
    for norm_eval in (True, False):
        backbone = build(
            backbone=dict(RESNET, norm_eval=not norm_eval),
            frozen=False,
            norm_eval=norm_eval,
        )
        backbone.train()
        assert backbone.layer4[0].bn1.training is not norm_eval


def test_stem_alone_is_stage_0():
    backbone = build(backbone=RESNET, frozen_stages=0)
    frozen = {n for n, _ in backbone.named_parameters()} - trainable(backbone)
    assert frozen == {'conv1.weight', 'bn1.weight', 'bn1.bias'}


@pytest.mark.parametrize(
    'name, offset',
    [
        ('ResNet', 0),
        ('Res2Net', 0),
        ('SwinTransformer', 0),
        ('CSPDarknet', 0),
        ('CSPNeXt', 0),
        ('MobileNetV2', 0),
        ('EfficientNet', 1),  # MMDetection counts the stem as 1
        ('Darknet', 1),
    ],
)
def test_stages_are_those_of_mmdetection_where_it_counts_from_the_stem(
    name, offset
):
    row = ROWS[name]
    for stage in (0, 2):
        stock = MODELS.build(
            ConfigDict(row.config, frozen_stages=stage + offset)
        )
        stock.train()
        assert trainable(row.build(frozen_stages=stage)) == trainable(stock)


@pytest.mark.parametrize('stage', [-1, 5, True, '2', 2.0])
def test_stage_that_is_not_there_is_refused(stage):
    refused(
        'model.backbone.frozen_stages',
        '4',
        repr(stage),
        backbone=RESNET,
        frozen_stages=stage,
    )


def test_pattern_that_matches_nothing_is_refused_with_the_nearest_names():
    refused(
        'model.backbone.frozen',
        "'layr1'",
        'layer1',
        backbone=RESNET,
        frozen=['layr1'],
    )
    refused('conv1', backbone=RESNET, frozen=['xyz'])


@pytest.mark.parametrize('frozen', ['layer1', [], None])
def test_patterns_that_are_no_list_are_refused(frozen):
    refused('model.backbone.frozen', backbone=RESNET, frozen=frozen)


def test_contradictions_are_refused():
    refused('norm_eval must be True', backbone=RESNET, norm_eval=False)
    refused(
        'frozen_stages',
        'frozen=False',
        backbone=RESNET,
        frozen=False,
        frozen_stages=2,
    )


@pytest.mark.parametrize(
    'inner',
    [
        dict(RESNET, frozen_stages=1),
        dict(type='EfficientNet', arch='b0', frozen_stages=1),
        dict(ROWS['SwinTransformer'].config, frozen_stages=0),
    ],
    ids=lambda config: config['type'],
)
def test_hosts_own_stages_are_refused_beside_a_part_and_in_a_control(inner):
    for options in (dict(frozen=False), dict(frozen_stages=1)):
        refused('backbone.frozen_stages', backbone=inner, **options)
    whole = build(backbone=inner)
    assert not trainable(whole)


@MODELS.register_module()
class NoneAtZero(ResNet):
    """Counts frozen stages from 1, as many classes of mmpretrain do."""

    def _freeze_stages(self):
        self.frozen_stages, given = self.frozen_stages - 1, self.frozen_stages
        super()._freeze_stages()
        self.frozen_stages = given


def test_a_number_of_stages_that_freezes_nothing_is_taken():
    inner = dict(RESNET, type='NoneAtZero', frozen_stages=0)
    control = build(backbone=inner, frozen=False, norm_eval=False)
    assert trainable(control) == {n for n, _ in control.named_parameters()}
    half = build(backbone=inner, frozen_stages=1)
    assert 'layer1.0.conv1.weight' not in trainable(half)
    assert 'layer2.0.conv1.weight' in trainable(half)
    refused(
        'frozen_stages',
        backbone=dict(inner, frozen_stages=1),
        frozen=False,
        norm_eval=False,
    )


def test_class_without_known_stages_is_refused_by_stage_alone():
    options = dict(backbone=dict(FPN), frozen_stages=1)
    refused('FPN', 'frozen=[...]', **options)


def test_trident_stage_that_would_train_one_branch_of_three_is_refused():
    config = dict(ROWS['TridentResNet'].config, test_branch_idx=1)
    refused('test_branch_idx', 'got 1', backbone=config)
    refused('test_branch_idx', backbone=config, frozen_stages=3)
    build(backbone=config, frozen_stages=2)


def test_frozen_neck_is_mmdetections_and_stays_what_it_was():
    neck = build('FrozenModule', module=FPN)
    assert type(neck).__name__ == 'FPN'
    stock = MODELS.build(ConfigDict(FPN))
    neck.load_state_dict(stock.state_dict())
    stock.load_state_dict(neck.state_dict())
    neck.train()
    assert trainable(neck) == set() and find_faults(neck) == []


def test_part_of_a_neck_is_frozen_and_the_rest_trains():
    neck = build('FrozenModule', module=FPN, patterns=['lateral_convs'])
    levels = [
        torch.randn(1, c, s, s)
        for c, s in zip(FPN['in_channels'], (16, 8, 4, 2), strict=True)
    ]
    neck.train()
    sum(x.sum() for x in neck(levels)).backward()
    assert {n for n, p in neck.named_parameters() if p.grad is not None} == {
        n for n, _ in neck.named_parameters() if n.startswith('fpn_convs')
    }


def test_unmatched_part_of_a_neck_is_refused_by_name():
    with pytest.raises(ValueError, match='fpn_convs') as caught:
        build('FrozenModule', module=FPN, patterns=['fpn_conv'])
    assert "got 'fpn_conv'" in str(caught.value)


def test_frozen_parts_of_a_detector_stay_while_the_rest_trains():
    """Neck, RPN and box head are frozen; gradients pass through the neck to
    the backbone, and the mask head trains."""
    register_all_modules()
    torch.manual_seed(0)
    config = build_mask_rcnn(num_classes=3)
    for part in ('neck', 'rpn_head'):
        config[part] = dict(type='FrozenModule', module=config[part])
    config['roi_head']['bbox_head'] = dict(
        type='FrozenModule', module=config['roi_head']['bbox_head']
    )
    detector = MODELS.build(ConfigDict(config))
    detector.init_weights()
    detector.train()
    status = {row.name: row.status for row in describe(detector)}
    assert status['neck'] == status['rpn_head'] == 'frozen'
    assert status['roi_head.bbox_head'] == 'frozen'
    assert status['roi_head.mask_head'] == 'trained'
    packed = demo_mm_inputs(
        1, [(3, 100, 150)], num_items=[4], num_classes=3, with_mask=True
    )
    packed = detector.data_preprocessor(packed, training=True)
    losses = detector.loss(packed['inputs'], packed['data_samples'])
    total, _ = detector.parse_losses(losses)
    total.backward()
    reached = {
        name.partition('.')[0]
        if not name.startswith('roi_head')
        else '.'.join(name.split('.')[:2])
        for name, p in detector.named_parameters()
        if p.grad is not None
    }
    assert reached == {'backbone', 'roi_head.mask_head'}


def test_position_embedding_of_another_size_counts_as_missing(tmp_path):
    row = ROWS['PyramidVisionTransformer']
    path = tmp_path / 'pvt.pth'
    torch.save(row.build('stock').state_dict(), path)
    inner = dict(
        pretrain_img_size=128,
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )
    backbone = row.build(inner=inner)
    recorder = LoadRecorder(backbone)
    backbone.init_weights()
    assert recorder.stop() == [f'layers.{i}.1.0.pos_embed' for i in range(4)]


def test_swin_output_norms_need_a_source_unless_they_are_the_identity(
    tmp_path,
):
    row = ROWS['SwinTransformer']
    state = row.build('stock').state_dict()
    path = tmp_path / 'swin.pth'
    torch.save(
        {f'backbone.{k}': v for k, v in state.items() if k[:4] != 'norm'},
        path,
    )
    backbone = row.build(
        inner=dict(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    )
    recorder = LoadRecorder(backbone)
    backbone.init_weights()
    with torch.no_grad():
        backbone.norm2.weight[3] = 0.9
    assert recorder.stop() == ['norm2.weight']


def test_swin_takes_a_file_of_the_original_repository_with_other_windows(
    tmp_path,
):
    """Its loader renames, reorders and resizes; the recorder follows."""
    row = ROWS['SwinTransformer']
    path = tmp_path / 'swin.pth'
    torch.save(dict(model=to_original(row.build('stock').state_dict())), path)
    backbone = row.build(
        inner=dict(
            window_size=5,
            convert_weights=True,
            init_cfg=dict(type='Pretrained', checkpoint=str(path)),
        )
    )
    recorder = LoadRecorder(backbone)
    backbone.init_weights()
    assert recorder.stop() == []


def to_original(state):
    """The names of microsoft/Swin-Transformer, without its index tables."""
    renames = [
        ('stages', 'layers'),
        ('attn.w_msa', 'attn'),
        ('ffn.layers.0.0', 'mlp.fc1'),
        ('ffn.layers.1', 'mlp.fc2'),
        ('projection', 'proj'),
    ]
    result = {}
    for name, tensor in state.items():
        if name[:4] == 'norm' or name.endswith('index'):
            continue
        for new, old in renames:
            name = name.replace(new, old)
        result[name] = tensor
    return result


@pytest.mark.parametrize(
    'name, layer, stage',
    [
        ('ResNetV1d', 'stem.0', 0),
        ('HRNet', 'conv2', 0),
        ('HRNet', 'layer1.0.conv1', 1),
        ('HRNet', 'transition1.1.0.0', 2),
        ('EfficientNet', 'layers.0.conv', 0),
        ('MobileNetV2', 'conv2.conv', 8),
        ('SwinTransformer', 'norm0', 1),
        ('SwinTransformer', 'drop_after_pos', 0),
        ('PyramidVisionTransformer', 'layers.0.0.projection', 0),
        ('PyramidVisionTransformer', 'layers.0.1.0.pos_embed', 1),
        ('PyramidVisionTransformer', 'layers.1.0.projection', 2),
        ('SSDVGG', 'features.0', 1),
        ('SSDVGG', 'features.3', 2),
        ('SSDVGG', 'features.23', 6),
        ('HourglassNet', 'out_convs.0.conv', 1),
        ('HourglassNet', 'inters.0.conv1', 2),
        ('timm CLIP ViT', 'model.model.norm_pre', 0),
        ('timm DINOv2', 'model.model.reg_token', 0),
        ('timm ViT', 'model.model.pos_drop', 0),
        ('timm EfficientNet-B0', 'model.conv_stem', 0),
        ('timm ConvNeXt', 'model.stages_3.downsample.1', 4),
    ],
)
def test_layer_belongs_to_the_stage_that_the_page_says(name, layer, stage):
    assert stage_numbers(ROWS[name].build('stock'))[layer] == stage


@pytest.mark.parametrize(
    'name, layer',
    [
        ('timm CLIP ViT', 'model.model.norm_pre.weight'),
        ('timm DINOv2', 'model.model.reg_token'),
    ],
)
def test_groups_of_older_timm_do_not_put_the_stem_last(
    name, layer, monkeypatch
):
    def group_matcher(self, coarse=False):  # as in timm 1.0.15
        return dict(
            stem=r'^cls_token|pos_embed|patch_embed',
            blocks=[(r'^blocks\.(\d+)', None), (r'^norm', (99999,))],
        )

    monkeypatch.setattr(VisionTransformer, 'group_matcher', group_matcher)
    backbone = ROWS[name].build('stock')
    assert stage_numbers(backbone)[layer] <= 1
    assert num_stages(backbone) == ROWS[name].stages
