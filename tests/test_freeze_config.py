"""Any config of MMDetection becomes a frozen one and its control."""

import socket
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmfrozen.config_check import check_config
from mmfrozen.config_file import ZOO, locate
from mmfrozen.empty_weights import empty_weights
from mmfrozen.freeze_config import (
    CannotFreezeError,
    control_path,
    convert,
    freeze_config,
    meta,
    text,
)
from mmfrozen.freezing import count_parameters, find_faults
from mmfrozen_cli import run_command

from .tiny import build, tiny_config

TOOL = Path(__file__).parents[1] / 'tools' / 'freeze_config.py'
BASE = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
SWIN = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'

# Config, class of its backbone, and the stages that frozen_stages has to
# name; None where only FrozenBackbone freezes it.
KINDS = [
    # one for each class of backbone
    ('mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco.py', 'ResNet', 4),
    ('mask_rcnn/mask-rcnn_x101-32x4d_fpn_1x_coco.py', 'ResNeXt', 4),
    ('regnet/retinanet_regnetx-800MF_fpn_1x_coco.py', 'RegNet', 4),
    ('res2net/faster-rcnn_res2net-101_fpn_2x_coco.py', 'Res2Net', 4),
    (
        'resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco.py',
        'ResNeSt',
        4,
    ),
    ('detectors/detectors_htc-r50_1x_coco.py', 'DetectoRS_ResNet', 4),
    ('tridentnet/tridentnet_r50-caffe_1x_coco.py', 'TridentResNet', 3),
    ('swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', 'SwinTransformer', None),
    ('pvt/retinanet_pvt-t_fpn_1x_coco.py', 'PyramidVisionTransformer', None),
    (
        'pvt/retinanet_pvtv2-b0_fpn_1x_coco.py',
        'PyramidVisionTransformerV2',
        None,
    ),
    (
        'efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco.py',
        'EfficientNet',
        None,
    ),
    ('hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py', 'HRNet', None),
    (
        'cornernet/cornernet_hourglass104_10xb5-crop511-210e-mstest_coco.py',
        'HourglassNet',
        None,
    ),
    ('ssd/ssd300_coco.py', 'SSDVGG', None),
    ('yolo/yolov3_d53_8xb8-320-273e_coco.py', 'Darknet', None),
    ('yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py', 'MobileNetV2', None),
    ('yolox/yolox_tiny_8xb8-300e_coco.py', 'CSPDarknet', None),
    ('rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py', 'CSPNeXt', None),
    # and for each kind of detector that is put together differently
    (
        'strong_baselines/mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all'
        '_lsj-50e_coco.py',
        'ResNet',
        4,
    ),
    ('detr/detr_r50_8xb2-150e_coco.py', 'ResNet', 4),
    ('mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', 'ResNet', 4),
    ('solov2/solov2_r50_fpn_1x_coco.py', 'ResNet', 4),
    ('ld/ld_r18-gflv1-r101_fpn_1x_coco.py', 'ResNet', 4),
    ('lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py', 'ResNet', 4),
    (
        'soft_teacher/'
        'soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
        'ResNet',
        4,
    ),
    (
        'ocsort/ocsort_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain'
        '_test-mot17halfval.py',
        'CSPDarknet',
        None,
    ),
    (
        'masktrack_rcnn/'
        'masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019.py',
        'ResNet',
        4,
    ),
]


@pytest.fixture
def base(tmp_path):
    """Write a base config; text or settings merged over a small one."""

    def write(more='', name='base.py', start='mmdet::ssd/ssd300_coco.py'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'_base_ = {start!r}\n{more}')
        return path

    return write


@pytest.fixture
def tool(monkeypatch):
    """Call the command with arguments."""

    def call(*args):
        monkeypatch.setattr(sys, 'argv', [TOOL.name, *map(str, args)])
        return run_command('freeze')

    return call


def convert_to(path, source):
    """Convert and load both written configs."""
    result = freeze_config(source, path)
    control = Config.fromfile(control_path(path))
    return result, Config.fromfile(path), control


@pytest.mark.parametrize(
    ('name', 'backbone', 'stages'),
    [pytest.param(*kind, id=kind[0].split('/')[1]) for kind in KINDS],
)
def test_each_kind_of_config_is_frozen_the_way_of_its_class(
    tmp_path, name, backbone, stages
):
    result = freeze_config(locate(f'mmdet::{name}'), tmp_path / 'x.py')
    (plan,) = result.plan.backbones
    assert (plan.name, plan.stages) == (backbone, stages)
    assert 0 < result.counts.trainable < result.counts.total


@pytest.mark.zoo
def test_every_config_of_the_zoo_whose_model_builds_is_frozen():
    sources = [p for p in ZOO.rglob('*.py') if '_base_' not in p.parts]
    assert len(sources) == 823
    reasons = {}
    for source in sources:
        try:
            freeze_config(source)
        except CannotFreezeError as error:
            reasons[source.relative_to(ZOO).as_posix()] = str(error)
    known = (
        'must have a model',  # fragments: schedules, augmentation
        'read_base()',  # scripts among the configs
        'FileNotFoundError',  # bases that MMDetection itself lacks
        'mmpretrain',  # not installed here
        'must name a class',  # detectron2's models
    )
    unexpected = {
        name: why
        for name, why in reasons.items()
        if not any(text in why for text in known)
    }
    assert unexpected == {}
    assert len(reasons) <= 40


def test_counts_on_the_meta_device_are_those_of_the_real_model(tmp_path):
    result, cfg, _ = convert_to(tmp_path / 'x.py', locate(BASE))
    real = MODELS.build(cfg.model)
    assert count_parameters(real) == result.counts
    real.train()
    assert find_faults(real.backbone) == []
    assert result.counts.total == 44_396_336  # R50-FPN with 80 classes


def test_building_needs_neither_network_nor_parameter_memory(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError('the network was asked')

    monkeypatch.setattr(socket, 'create_connection', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    cfg = Config.fromfile(ZOO / 'lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py')
    model = meta.build(cfg.model)
    assert all(p.is_meta for p in model.parameters())
    assert not torch.nn.Linear(1, 1).weight.is_meta


def test_initializer_that_is_kept_from_within_fills_weights_as_ever():
    with empty_weights():
        kept = torch.nn.init.constant_
        layer = torch.nn.Linear(1, 1)
        assert layer.weight.is_meta and layer.weight.add_(1) is layer.weight
        assert torch.zeros(2).add_(1).tolist() == [1.0, 1.0]
    assert kept(torch.zeros(2), 3.0).tolist() == [3.0, 3.0]


@pytest.fixture
def late_freezer():
    """Register a backbone that freezes in train() only, as Swin does."""

    @MODELS.register_module()
    class LateFreezer(ResNet):
        def __init__(self, frozen_stages=-1, **kwargs):
            super().__init__(**kwargs)
            self.frozen_stages = frozen_stages

    yield LateFreezer.__name__
    MODELS.module_dict.pop(LateFreezer.__name__)


def test_own_keys_that_freeze_too_late_are_not_trusted(base, late_freezer):
    more = f"model = dict(backbone=dict(type='{late_freezer}'))"
    (plan,) = freeze_config(base(more, start=BASE)).plan.backbones
    assert plan.stages is None


def test_stock_config_builds_before_any_runner_was_made(tmp_path, monkeypatch):
    Config.fromfile(ZOO / 'ssd/ssd300_coco.py').dump(tmp_path / 'stock.py')
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    assert freeze_config(tmp_path / 'stock.py').counts


def test_wrapper_keeps_every_setting_of_the_bases_backbone(tmp_path):
    source = locate(SWIN)
    _, frozen, control = convert_to(tmp_path / 'x.py', source)
    own = Config.fromfile(source).model.backbone.to_dict()
    wrapped = frozen.model.backbone.backbone.to_dict()
    assert {k: v for k, v in wrapped.items() if k != '_scope_'} == own
    assert frozen.model.backbone.frozen and not control.model.backbone.frozen


def test_control_differs_from_the_base_only_in_that_all_of_it_trains(
    tmp_path,
):
    source = locate('mmdet::mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco.py')
    _, _, control = convert_to(tmp_path / 'x.py', source)
    expected = Config.fromfile(source).model.to_dict()
    expected['backbone'].update(frozen_stages=-1)
    expected['backbone']['norm_cfg']['requires_grad'] = True
    actual = control.model.to_dict()
    assert actual.pop('_scope_', 'mmdet') == 'mmdet'
    assert actual == expected


def test_base_is_found_from_where_the_file_lies(base, tmp_path, monkeypatch):
    source = base(name='configs/ssd.py')
    out = tmp_path / 'configs/frozen/ssd.py'
    freeze_config(source, out)
    assert "_base_ = '../ssd.py'" in out.read_text()
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    control = Config.fromfile('../configs/finetuned/ssd.py')
    assert control.default_hooks.frozen_guard.state == 'finetuned'


def test_layer_decay_is_dropped_when_frozen_and_kept_in_the_control(
    base, tmp_path
):
    source = base(
        'optim_wrapper = dict(\n'
        "    constructor='LearningRateDecayOptimizerConstructor',\n"
        "    paramwise_cfg=dict(decay_rate=0.7, decay_type='layer_wise'))\n"
    )
    result, frozen, control = convert_to(tmp_path / 'x.py', source)
    assert any('LearningRateDecay' in note for note in result.notes)
    wrapper = frozen.optim_wrapper
    assert wrapper.constructor == 'mmfrozen.TrainableOptimWrapperConstructor'
    # MMDetection's layer decay spares norms and biases
    assert wrapper.paramwise_cfg == dict(norm_decay_mult=0, bias_decay_mult=0)
    original = Config.fromfile(source).optim_wrapper
    assert control.optim_wrapper == original


def test_copies_of_frozen_weights_for_averages_are_noted(base, tmp_path):
    for kind, is_noted in (('EMAHook', True), ('FrozenAwareEMAHook', False)):
        source = base(f'custom_hooks = [dict(type={kind!r})]\n')
        notes = convert_to(tmp_path / 'x.py', source)[0].notes
        assert is_noted == any('FrozenAwareEMAHook' in n for n in notes)


@pytest.mark.parametrize(
    'kind',
    [
        'mmengine.DefaultOptimWrapperConstructor',
        'mmfrozen.TrainableOptimWrapperConstructor',
    ],
)
def test_constructors_are_known_with_a_scope(base, kind, tmp_path):
    source = base(f'optim_wrapper = dict(constructor={kind!r})\n')
    result, *_ = convert_to(tmp_path / 'x.py', source)
    assert not any(kind in note for note in result.notes)
    known = kind.startswith('mmfrozen.')
    assert ('optim_wrapper =' in (tmp_path / 'x.py').read_text()) != known


def test_our_own_control_is_frozen_without_a_second_wrapper(tmp_path):
    root = Path(__file__).parents[1]
    own = root / 'configs/finetuned/mask_rcnn_lite0_mini-lvis.py'
    _, frozen, control = convert_to(tmp_path / 'x.py', own)
    assert frozen.model.backbone.frozen and frozen.model.backbone.norm_eval
    assert frozen.model.backbone.backbone.type == 'mmfrozen.TimmBackbone'
    assert not control.model.backbone.frozen


def test_imports_of_the_base_are_kept(base, tmp_path):
    source = base(
        "custom_imports = dict(imports=['json'], allow_failed_imports=True)\n"
    )
    _, frozen, _ = convert_to(tmp_path / 'x.py', source)
    assert frozen.custom_imports == dict(
        imports=['json', 'mmfrozen'], allow_failed_imports=True
    )


def test_frozen_part_of_a_detector_comes_from_its_checkpoint(base, tmp_path):
    for start in ('mmdet::ssd/ssd300_coco.py', BASE):
        source = base("load_from = 'detector.pth'\n", start=start)
        result, frozen, _ = convert_to(tmp_path / 'x.py', source)
        backbone = frozen.model.backbone
        init_cfg = backbone.get('backbone', backbone).init_cfg
        assert (init_cfg.type, init_cfg.checkpoint, init_cfg.prefix) == (
            'Pretrained',
            'detector.pth',
            'backbone.',
        )
        assert any('load_from' in one for one in result.warnings)


@pytest.mark.parametrize(
    ('more', 'warning'),
    [
        (
            'model = dict(backbone=dict(init_cfg=None))',
            'set model.backbone.init_cfg=',
        ),
        (
            "model = dict(backbone=dict(dcn=dict(type='DCN', "
            'deform_groups=1), stage_with_dcn=(False, True, True, True)))',
            'model.backbone.dcn adds layers',
        ),
        ('', None),
    ],
    ids=['random weights', 'layers no classifier has', 'nothing'],
)
def test_user_is_warned_of_what_the_guard_will_refuse(
    base, tmp_path, more, warning
):
    result = freeze_config(base(more, start=BASE), tmp_path / 'x.py')
    assert [w for w in result.warnings if warning and warning in w] or (
        not warning and not result.warnings
    )
    if warning:
        written = ' '.join((tmp_path / 'x.py').read_text().split())
        assert warning in written, 'the file says so too'


def test_small_capacity_is_warned_of_with_the_papers_figures():
    small = freeze_config(
        locate('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    )
    assert any('38%' in w and '6.5 AP' in w for w in small.warnings)


def test_teacher_is_no_part_of_the_count():
    kind = next(name for name, *_ in KINDS if 'soft-teacher' in name)
    semi = freeze_config(locate(f'mmdet::{kind}'))
    assert 41e6 < semi.counts.total < 42e6  # one Faster R-CNN R50, not two


def test_config_that_would_not_be_frozen_is_refused_and_nothing_changes(
    base, tmp_path, monkeypatch
):
    out = tmp_path / 'x.py'
    control_path(out).write_text('# mine\n')
    right = text.frozen_text
    monkeypatch.setattr(
        convert,
        'frozen_text',
        lambda *args: right(*args).replace('stages=4', 'stages=3'),
    )
    with pytest.raises(
        CannotFreezeError, match='must be frozen by the written'
    ):
        freeze_config(locate(BASE), out)
    assert not out.exists() and control_path(out).read_text() == '# mine\n'


def test_model_that_builds_no_longer_is_refused(tmp_path, monkeypatch):
    right = text.frozen_text
    monkeypatch.setattr(
        convert,
        'frozen_text',
        lambda *args: right(*args) + "model.update(neck=dict(type='No'))\n",
    )
    with pytest.raises(CannotFreezeError, match='must build from the written'):
        freeze_config(locate(BASE), tmp_path / 'x.py')


def test_control_that_would_not_train_is_refused(monkeypatch, tmp_path):
    right = text.control_text
    monkeypatch.setattr(
        convert,
        'control_text',
        lambda *args: right(*args).replace('stages=-1', 'stages=1'),
    )
    with pytest.raises(CannotFreezeError, match='must train every stage'):
        freeze_config(locate(BASE), tmp_path / 'x.py')


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('a = 1', 'must have a model'),
        ('model = dict(type="X")', 'model.backbone must be a dict'),
        (
            'model = dict(backbone=dict(type="NoSuch"))',
            'must build in this environment',
        ),
        ('model = dict(backbone=dict(a=1))', 'must name a class'),
        ('from mmdet.models import SSD', 'must inherit by _base_'),
        ('1 / 0', 'must load in this environment'),
    ],
    ids=[
        'fragment',
        'no backbone',
        'unknown',
        'from elsewhere',
        'lazy',
        'broken',
    ],
)
def test_tool_exits_1_with_one_line_on_what_cannot_be_frozen(
    tool, tmp_path, capsys, text, reason
):
    path = tmp_path / 'base.py'
    path.write_text(text)
    assert tool(path) == 1
    output = capsys.readouterr()
    line, *_ = output.err.splitlines()
    assert line.startswith('error: ') and reason in line and not output.out
    assert ', got ' in line and line.endswith('.')


def test_tool_prints_a_config_that_can_be_saved_and_used(
    tool, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert tool(BASE) == 0
    output = capsys.readouterr()
    Path('saved.py').write_text(output.out)
    backbone = Config.fromfile('saved.py').model.backbone
    assert backbone.frozen_stages == 4 and backbone.norm_eval
    assert 'ResNet is frozen by frozen_stages=4' in output.err


def test_tool_writes_both_and_never_replaces_them_unasked(
    tool, tmp_path, capsys
):
    out = tmp_path / 'frozen' / 'x.py'
    assert tool(BASE, '--out', out) == 0
    assert 'trainable  20,888,304 (47.0%)' in capsys.readouterr().out
    out.unlink()  # the control alone stands in the way, too
    assert tool(BASE, '--out', out) == 2
    assert 'finetuned/x.py' in capsys.readouterr().err
    assert tool(BASE, '--out', out, '--force') == 0
    assert out.is_file()


def test_tool_refuses_to_write_over_its_own_base(tool, base, capsys):
    source = base()
    before = source.read_text()
    assert tool(source, '--out', source, '--force') == 2
    assert source.read_text() == before


@pytest.mark.parametrize(
    'args',
    [
        ['missing.py'],
        ['mmdet::missing.py'],
        ['nowhere::missing.py'],
        [],
        [BASE, '--out', 'x.txt'],
        [BASE, SWIN, '--out', 'x.py'],
        [BASE, '--json', 'x.json'],
    ],
    ids=' '.join,
)
def test_tool_exits_2_on_wrong_use(tool, args):
    try:
        code = tool(*args)
    except SystemExit as stop:
        code = stop.code
    assert code == 2


def test_tool_tries_many_and_says_how_many_can_be_frozen(
    tool, tmp_path, capsys
):
    bad = tmp_path / 'bad.py'
    bad.write_text('a = 1')
    record = tmp_path / 'table.json'
    assert tool(SWIN, bad, '--json', record) == 1
    table = capsys.readouterr().out
    assert '1 of 2 configs' in table and 'must have a model' in table
    assert '"SwinTransformer"' in record.read_text()


@pytest.fixture
def swin_base(tmp_path, mini_lvis, resnet18):
    """A small Swin detector as the stock MMDetection would say it."""
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    swin = dict(
        type='SwinTransformer',
        embed_dims=24,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        drop_path_rate=0.5,
        convert_weights=False,
    )
    state = MODELS.build(swin).state_dict()
    weights = {f'backbone.{name}': tensor for name, tensor in state.items()}
    torch.save(weights, tmp_path / 'swin.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth'))
    cfg.model.backbone = dict(swin, init_cfg=init_cfg)
    cfg.model.neck.in_channels = [24, 48, 96, 192]
    cfg.pop('custom_imports', None)
    del cfg.default_hooks['frozen_guard']
    del cfg.optim_wrapper['constructor']
    cfg.train_cfg.max_epochs = 1
    return cfg


def train_pair(base, tmp_path, state):
    base.dump(tmp_path / 'base.py')
    freeze_config(tmp_path / 'base.py', tmp_path / 'frozen' / 'x.py')
    runner = build(Config.fromfile(tmp_path / state / 'x.py'))
    runner.train()
    return runner.model.backbone


@pytest.mark.parametrize('state', ['frozen', 'finetuned'])
def test_written_pair_trains_under_the_guard(state, tmp_path, swin_base):
    backbone = train_pair(swin_base, tmp_path, state)
    trains = {p.requires_grad for p in backbone.parameters()}
    assert trains == {state == 'finetuned'}


def test_config_that_continues_a_detector_trains_under_the_guard(
    tmp_path, swin_base
):
    # as GroundingDINO's: a whole detector, and weights of Swin's authors
    swin_base.load_from = swin_base.model.backbone.init_cfg.checkpoint
    swin_base.model.backbone.update(convert_weights=True)
    swin_base.model.backbone.init_cfg.checkpoint = 'missing.pth'
    backbone = train_pair(swin_base, tmp_path, 'frozen')
    loaded = torch.load(swin_base.load_from)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, loaded[f'backbone.{name}'])


def test_misspelt_config_is_answered_with_its_neighbour():
    with pytest.raises(
        FileNotFoundError, match="mean 'retinanet_r50_fpn_1x_coco.py'"
    ):
        locate('mmdet::retinanet/retinanet_r50_fpn_1x_cocoo.py')


@pytest.mark.parametrize(
    'name, types, stays',
    [
        (
            'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
            {
                'type': 'mmfrozen.BatchedTwoStageDetector',
                'data_preprocessor.type': (
                    'mmfrozen.BatchedDetDataPreprocessor'
                ),
                'rpn_head.type': 'mmfrozen.BatchedRPNHead',
                'roi_head.type': 'mmfrozen.BatchedStandardRoIHead',
            },
            [],
        ),
        (
            'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
            {'roi_head.type': 'mmfrozen.BatchedCascadeRoIHead'},
            [],
        ),
        (
            'retinanet/retinanet_r50_fpn_1x_coco.py',
            {
                'type': 'RetinaNet',
                'bbox_head.type': 'mmfrozen.BatchedRetinaHead',
            },
            [],
        ),
        (
            'pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py',
            {'rpn_head.type': 'mmfrozen.BatchedRPNHead'},
            ['model.roi_head stays PISARoIHead'],
        ),
        (
            'faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco.py',
            {'roi_head.type': 'mmfrozen.BatchedStandardRoIHead'},
            ['model.roi_head works image by image: sampler OHEMSampler'],
        ),
        (
            'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
            {'type': 'FCOS', 'bbox_head.type': 'FCOSHead'},
            ['model.bbox_head stays FCOSHead'],
        ),
    ],
)
def test_fast_takes_batched_types_and_says_what_stays(
    tmp_path, name, types, stays
):
    out = tmp_path / 'frozen' / 'x.py'
    result = freeze_config(ZOO / name, out, fast=True)
    for file in (out, control_path(out)):
        model = Config.fromfile(file).model
        for path, wanted in types.items():
            *parents, last = path.split('.')
            part = model
            for key in parents:
                part = part[key]
            assert part[last] == wanted
    for line in stays:
        assert any(line in note for note in result.notes)
    if not stays:
        assert not any('image by image' in n for n in result.notes)
        assert not any(' stays ' in n for n in result.notes)


@pytest.mark.parametrize(
    'name, reason',
    [
        ('legacy_1.x/mask-rcnn_r50_fpn_1x_coco_v1.py', 'box coder Legacy'),
        ('sabl/sabl-cascade-rcnn_r50_fpn_1x_coco.py', 'box coder Bucketing'),
    ],
)
def test_fast_builds_with_parts_that_have_no_batched_form(name, reason):
    notes = freeze_config(ZOO / name, fast=True).notes
    wanted = f'model.roi_head works image by image: {reason}'
    assert any(note.startswith(wanted) for note in notes), notes


def test_without_fast_types_stay_mmdetections(tmp_path):
    out = tmp_path / 'x.py'
    freeze_config(locate(BASE), out)
    assert Config.fromfile(out).model.type == 'MaskRCNN'


@pytest.mark.parametrize(
    ('text', 'loop', 'stays'),
    [
        ('', 'mmfrozen.ResumableEpochBasedTrainLoop', []),
        (
            'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=9)',
            'mmfrozen.ResumableIterBasedTrainLoop',
            [],
        ),
        (
            "train_cfg = dict(type='TeacherStudentValLoop')\n"
            'default_hooks = dict(checkpoint=None)\n'
            "runner_type = 'FlexibleRunner'",
            'TeacherStudentValLoop',
            ['runner_type', 'train_cfg', 'default_hooks.checkpoint'],
        ),
    ],
)
def test_reliable_sets_what_a_run_survives_by_and_says_what_stays(
    tmp_path, text, loop, stays
):
    base, out = tmp_path / 'base.py', tmp_path / 'frozen' / 'x.py'
    base.write_text(f'_base_ = {BASE!r}\n{text}\n')
    result = freeze_config(base, out, reliable=True)
    found = [n.split(' ')[0] for n in result.notes if ' stays ' in n]
    assert found == stays
    for file in (out, control_path(out)):
        cfg = Config.fromfile(file)
        assert cfg.train_cfg.type == loop and 'by_epoch' not in cfg.train_cfg
        assert cfg.default_hooks.non_finite.type == 'mmfrozen.NonFiniteHook'
        [backend] = cfg.visualizer.vis_backends
        assert backend.type == 'mmfrozen.SafeLocalVisBackend'
        if not stays:
            saving = cfg.default_hooks.checkpoint
            assert saving.type == 'mmfrozen.SafeCheckpointHook'
            assert saving.interval == 1
            assert cfg.runner_type == 'mmfrozen.CheckedRunner'
            assert check_config(cfg) == []


def test_control_of_a_backbone_without_a_rate_is_fine_tuned(tmp_path):
    base = tmp_path / 'base.py'
    base.write_text(
        f'_base_ = {BASE!r}\n'
        'optim_wrapper = dict(paramwise_cfg=dict(custom_keys={\n'
        "    'backbone': dict(lr_mult=0.0, decay_mult=0.0),\n"
        "    'neck': dict(lr_mult=0.5)}))\n"
    )
    out = tmp_path / 'frozen' / 'x.py'
    result = freeze_config(base, out)
    assert any('a learning rate of 0' in note for note in result.notes)
    keys = Config.fromfile(
        control_path(out)
    ).optim_wrapper.paramwise_cfg.custom_keys
    assert keys['backbone'].lr_mult == 1.0
    assert keys['neck'].lr_mult == 0.5


def test_tool_prints_the_whole_text_of_what_was_cut(tool, tmp_path, capsys):
    advice = 'set the environment variable THAT_IS_AT_THE_END'
    path = tmp_path / 'base.py'
    path.write_text(f'raise RuntimeError({"a reason, " * 30 + advice!r})\n')
    assert tool(path) == 1
    line, *beneath = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and advice not in line
    assert advice in '\n'.join(beneath)


IN_PART = """
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmfrozen'])
model = dict(backbone=dict(
    _delete_=True, type='{type}', {option}, backbone=dict(
        type='ResNet', depth=50, out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='r50.pth'))))
"""


@pytest.mark.parametrize(
    'kind',
    ['FrozenBackbone', 'mmdet.FrozenBackbone', 'mmfrozen.FrozenBackbone'],
)
@pytest.mark.parametrize('option', ['frozen_stages=2', "frozen=['layer1']"])
def test_backbone_that_is_frozen_in_part_is_frozen_whole(
    kind, option, tmp_path
):
    source = tmp_path / 'part.py'
    source.write_text(IN_PART.format(type=kind, option=option))
    out = tmp_path / 'frozen' / 'part.py'
    freeze_config(source, out)
    for path, is_trained in ((out, False), (control_path(out), True)):
        cfg = Config.fromfile(path)
        with DefaultScope.overwrite_default_scope('mmdet'):
            backbone = meta.build(cfg.model.backbone)
        backbone.train()
        assert {p.requires_grad for p in backbone.parameters()} == {is_trained}


def test_adapters_are_not_dropped_in_silence(tmp_path):
    source = tmp_path / 'adapters.py'
    source.write_text(
        IN_PART.format(type='FrozenBackbone', option='adapters=dict()')
    )
    with pytest.raises(CannotFreezeError, match=r'model\.backbone\.adapters'):
        freeze_config(source, tmp_path / 'frozen' / 'x.py')
