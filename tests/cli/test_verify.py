"""The proof of a trained checkpoint, by the command."""

import json
import sys

import pytest
import timm
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from safetensors.torch import save_file

from mmfrozen.reports.verify import verify
from mmfrozen_cli import run_command
from tests.tiny import ROOT

RESNET = dict(type='ResNet', depth=18, frozen_stages=4)
TIMM = dict(
    type='FrozenBackbone',
    backbone=dict(
        type='mmfrozen.TimmBackbone',
        model_name='test_efficientnet',
        out_indices=(1, 2, 3),
    ),
)
SWIN = dict(
    type='FrozenBackbone',
    backbone=dict(
        type='SwinTransformer',
        embed_dims=16,
        depths=(1, 1, 2, 1),
        num_heads=(1, 1, 1, 1),
        window_size=4,
        convert_weights=True,
    ),
)


def with_classifier(config, path):
    inner = config.get('backbone', config)
    inner = dict(inner, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    return dict(config, backbone=inner) if 'backbone' in config else inner


def train(folder, config, change=lambda state: None, text=None):
    """Write what a run of this backbone would, without the run."""
    backbone = MODELS.build(ConfigDict(config))
    backbone.init_weights()
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    change(state)
    state['neck.weight'] = torch.zeros(2)
    path = folder / 'trained.pth'
    text = text or f'lr = 0.1\nmodel = dict(backbone={config!r}, x=3)\n'
    torch.save(dict(state_dict=state, meta=dict(cfg=text)), path)
    return str(path)


def original_swin(folder):
    """A classifier in the layout of Swin's authors."""
    torch.manual_seed(5)
    ours = MODELS.build(dict(SWIN['backbone'], convert_weights=False))
    state = {}
    for key, tensor in ours.state_dict().items():
        if key.startswith('norm'):
            continue  # the classifier has none after its stages
        key = key.replace('patch_embed.projection', 'patch_embed.proj')
        key = key.replace('stages', 'layers').replace('attn.w_msa', 'attn')
        key = key.replace('ffn.layers.0.0', 'mlp.fc1')
        key = key.replace('ffn.layers.1', 'mlp.fc2')
        state[key] = (
            torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        )
    path = folder / 'swin.pth'
    torch.save(dict(model=state), path)
    return path


def timm_classifier(folder):
    torch.manual_seed(6)
    path = folder / 'classifier.safetensors'
    save_file(timm.create_model('test_efficientnet').state_dict(), path)
    return path


def nudge(state):
    key = [k for k in state if k.endswith('.weight') and state[k].ndim == 4][
        -1
    ]
    state[key] = state[key] * 1.001
    return key


KINDS = {
    'torchvision layout': (RESNET, lambda folder, resnet18: resnet18),
    'timm by safetensors': (TIMM, lambda folder, _: timm_classifier(folder)),
    'Swin with converted keys': (
        SWIN,
        lambda folder, _: original_swin(folder),
    ),
}


@pytest.mark.parametrize('named', ['by the config', 'by --against'])
@pytest.mark.parametrize('kind', KINDS)
def test_untouched_backbone_is_equal_and_a_nudged_one_is_named(
    kind, named, tmp_path, resnet18
):
    config, make = KINDS[kind]
    weights = make(tmp_path, resnet18)
    against = None if named == 'by the config' else str(weights)
    config = with_classifier(config, weights)
    result = verify(train(tmp_path, config), against)
    assert result.changed == [] and result.stages['all'].num_tensors > 20
    assert result.stages['all'].relative_l2 == 0
    nudged = []
    trained = train(tmp_path, config, lambda x: nudged.append(nudge(x)))
    result = verify(trained, against)
    assert [f'backbone.{name}' for name in result.changed] == nudged
    last = [s for s, x in result.stages.items() if x.num_changed]
    assert last[0].startswith('backbone.') and last[1:] == ['all']
    assert 0 < result.stages[last[0]].relative_l2 <= 0.0011


def test_running_statistics_count(tmp_path, resnet18):
    def change(state):
        state['backbone.layer2.0.bn1.running_mean'] += 1e-6
        state['backbone.bn1.num_batches_tracked'] += 1

    result = verify(train(tmp_path, with_classifier(RESNET, resnet18), change))
    assert result.changed == [
        'bn1.num_batches_tracked',
        'layer2.0.bn1.running_mean',
    ]
    assert result.stages['backbone.stage 2'].relative_l2 == 0
    assert result.stages['backbone.stage 2'].statistics_relative_l2 > 0


def test_config_that_is_not_plain_is_not_needed_beside_against(
    tmp_path, resnet18
):
    text = 'model = dict(backbone=make_backbone())\n'
    path = train(tmp_path, with_classifier(RESNET, resnet18), text=text)
    assert verify(path, str(resnet18)).changed == []
    with pytest.raises(ValueError, match='plain model.backbone'):
        verify(path)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command; return its exit status, output and messages."""
    path = ROOT / 'tools/verify_frozen.py'

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(path), *arguments])
        capsys.readouterr()  # what MMDetection printed while `train` built
        MMLogger._instance_dict.clear()  # its logger writes to the output
        status = run_command('verify')
        return status, *capsys.readouterr()

    return run


def test_command_exits_0_1_2_and_keeps_messages_off_its_output(
    run, tmp_path, resnet18
):
    config = with_classifier(RESNET, resnet18)
    status, output, _ = run(train(tmp_path, config), '--json')
    assert status == 0 and json.loads(output)['changed'] == []
    status, output, _ = run(train(tmp_path, config, nudge))
    assert status == 1
    assert 'changed: 1 of' in output and 'layer4' in output
    status, output, messages = run(str(tmp_path / 'no.pth'))
    assert status == 2 and output == ''
    assert messages.startswith('error: CHECKPOINT must be an existing file')


BUILT = 'init_cfg=dict(type="Pretrained", checkpoint={weights!r})))'
HOSTILE = {
    'a statement': (
        'open({mark!r}, "w")\nmodel = dict(backbone=dict(depth=1))',
        'CHECKPOINT must name its classifier',
    ),
    'a call in the model': (
        'model = dict(backbone=open({mark!r}, "w"))',
        'plain model.backbone',
    ),
    'a call deep inside': (
        'model = dict(backbone=dict(depth=[open({mark!r}, "w")]))',
        'plain model.backbone',
    ),
    'no Python': ('model = dict(', 'plain model.backbone'),
    'a type that the registry would import': (
        'model = dict(backbone=dict(type="hostile.Part", ' + BUILT,
        'registered parts of backbones',
    ),
    'such a type with our scope': (
        'model = dict(backbone=dict(type="mmfrozen.config_path.main", '
        + BUILT,
        'registered parts of backbones',
    ),
    'such a type deep inside': (
        'model = dict(backbone=dict(type="ResNet", depth=18, '
        'norm_cfg=dict(type="hostile.Part"), ' + BUILT,
        'registered parts of backbones',
    ),
    'a detector, which may read a config': (
        'model = dict(backbone=dict(type="LAD", teacher_ckpt={mark!r}, '
        + BUILT,
        'registered parts of backbones',
    ),
    'timm reading a file': (
        'model = dict(backbone=dict(type="TimmBackbone", model_name='
        '"resnet18", model_args=dict(checkpoint_path={mark!r}), ' + BUILT,
        'must not load files',
    ),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_nothing_in_a_checkpoint_runs(name, tmp_path, resnet18, monkeypatch):
    mark = tmp_path / 'mark'
    (tmp_path / 'hostile.py').write_text(f'open({str(mark)!r}, "w")')
    monkeypatch.syspath_prepend(tmp_path)
    other = tmp_path / 'other.pth'  # so that the backbone has to be built
    torch.save({'x': torch.zeros(1)}, other)
    text, words = HOSTILE[name]
    text = text.format(mark=str(mark), weights=str(other))
    config = with_classifier(RESNET, resnet18)
    with pytest.raises(ValueError, match=words) as caught:
        verify(train(tmp_path, config, text=text))
    assert ' must ' in str(caught.value) and ', got' in str(caught.value)
    assert not mark.exists()


def test_checkpoint_without_a_backbone_is_refused(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save({'state_dict': {'head.weight': torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match="'backbone"):
        verify(str(path))


def test_checkpoint_without_a_config_needs_against(tmp_path, resnet18):
    path = train(tmp_path, with_classifier(RESNET, resnet18))
    content = torch.load(path)
    del content['meta']
    torch.save(content, path)
    with pytest.raises(ValueError, match='--against'):
        verify(path)
    assert verify(path, str(resnet18)).changed == []


def test_weights_of_another_architecture_are_refused(tmp_path, resnet18):
    path = train(tmp_path, with_classifier(RESNET, resnet18))
    other = tmp_path / 'other.pth'
    state = torch.load(resnet18)
    del state['layer3.0.conv1.weight']
    torch.save(state, other)
    with pytest.raises(ValueError, match='layer3.0.conv1.weight'):
        verify(path, str(other))


def move(state, old, new):
    """Rename what begins with one prefix."""
    return {
        new + k.removeprefix(old): v
        for k, v in state.items()
        if k.startswith(old)
    }


@pytest.mark.parametrize(
    ('of_file', 'of_detector'),
    [('encoder.', ''), ('', 'net.'), ('encoder.q.', 'net.body.')],
)
def test_names_may_differ_by_a_constant_prefix(
    of_file, of_detector, tmp_path, resnet18
):
    state = torch.load(resnet18)
    classifier = tmp_path / 'moco.pth'
    torch.save(
        {**move(state, '', of_file), 'projector.weight': torch.ones(2, 2)},
        classifier,
    )
    body = {k: v for k, v in state.items() if not k.startswith('fc.')}
    trained = tmp_path / 'trained.pth'
    torch.save(
        dict(state_dict=move(body, '', f'backbone.{of_detector}')), trained
    )
    result = verify(str(trained), str(classifier))
    assert result.changed == []
    body['layer4.1.conv2.weight'] += 1
    torch.save(
        dict(state_dict=move(body, '', f'backbone.{of_detector}')), trained
    )
    (moved,) = verify(str(trained), str(classifier)).changed
    assert moved == f'{of_detector}layer4.1.conv2.weight'


def test_file_of_a_student_and_its_teacher_is_not_guessed_at(
    tmp_path, resnet18
):
    state = torch.load(resnet18)
    both = tmp_path / 'dino.pth'
    torch.save(move(state, '', 'student.') | move(state, '', 'teacher.'), both)
    path = tmp_path / 'trained.pth'
    body = {k: v for k, v in state.items() if not k.startswith('fc.')}
    torch.save(dict(state_dict=move(body, '', 'backbone.')), path)
    with pytest.raises(ValueError, match='different names'):
        verify(str(path), str(both))
