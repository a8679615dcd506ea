"""The guard in real runs; what it catches is in test_injected_faults.py."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmfrozen.freezing import changed_tensors, fingerprint
from mmfrozen.reports.verify import verify
from tests.tiny import build, tiny_config


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), 'cpu')


def files(cfg):
    """Checkpoints of a run."""
    return sorted(p.name for p in Path(cfg.work_dir).glob('*.pth'))


def test_frozen_run_trains_and_its_backbone_is_bitwise_the_classifier(
    config, resnet18, caplog
):
    runner = build(config)
    runner.logger.addHandler(caplog.handler)
    before = fingerprint(runner.model.neck)
    runner.train()
    assert files(config) == ['epoch_1.pth', 'epoch_2.pth']
    saved = load(Path(config.work_dir, 'epoch_2.pth'))['state_dict']
    classifier = load(resnet18)
    own = {k: v for k, v in saved.items() if k.startswith('backbone.')}
    assert len(own) == len(classifier) - 2  # without its last layer
    for name, tensor in own.items():
        assert torch.equal(tensor, classifier[name[len('backbone.') :]]), name
    assert changed_tensors(before, fingerprint(runner.model.neck))
    assert 'of the parameters train: in the paper' in caplog.text
    record = json.loads(Path(config.work_dir, 'backbone.json').read_text())
    assert record['state'] == 'frozen'
    assert record['backbone']['trainable'] == 0
    assert record['verified_iter'] == runner.iter == 4
    result = verify(str(Path(config.work_dir, 'epoch_2.pth')))
    assert result.changed == [] and result.classifier == str(resnet18)


@pytest.mark.parametrize('state', ['finetuned', 'scratch'])
def test_controls_train_every_stage(tmp_path, mini_lvis, resnet18, state):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18, state)
    cfg.train_cfg.max_epochs = 1
    runner = build(cfg)
    backbone = runner.model.backbone
    runner.train()
    weights = load(resnet18)
    moved = [
        n
        for n, p in backbone.named_parameters()
        if not torch.equal(p, weights[n])
    ]
    assert moved == [n for n, _ in backbone.named_parameters()]
    record = json.loads(Path(cfg.work_dir, 'backbone.json').read_text())
    assert record['backbone']['trainable'] == record['backbone']['total']


def refused(cfg, *words):
    """The run stops before its first checkpoint, in one telling line."""
    with pytest.raises(
        (ValueError, RuntimeError, FileNotFoundError)
    ) as caught:
        build(cfg).train()
    message = str(caught.value).strip().splitlines()[-1]
    for word in (*words, 'must', 'got'):
        assert word in message, message
    assert files(cfg) == []


def test_missing_checkpoint_is_refused(config):
    config.model.backbone.init_cfg.checkpoint = 'no/such.pth'
    refused(config, 'model.backbone.init_cfg.checkpoint', 'no/such.pth')


def test_truncated_checkpoint_is_refused(config, tmp_path, resnet18):
    part = tmp_path / 'part.pth'
    part.write_bytes(resnet18.read_bytes()[:100_000])
    config.model.backbone.init_cfg.checkpoint = str(part)
    refused(config, 'part.pth', '100000 bytes', 'truncated')


def test_checkpoint_with_wrong_hash_is_refused(config, tmp_path, resnet18):
    named = tmp_path / 'resnet18-5c106cde.pth'
    shutil.copy(resnet18, named)
    config.model.backbone.init_cfg.checkpoint = str(named)
    refused(config, '5c106cde', 'SHA-256')


def test_load_from_of_a_frozen_run_is_taken(config, tmp_path):
    build(config).train()
    config.load_from = str(Path(config.work_dir, 'epoch_2.pth'))
    config.work_dir = str(tmp_path / 'next')
    build(config).train()
    assert files(config) == ['epoch_1.pth', 'epoch_2.pth']


def test_pretrained_scratch_is_refused(tmp_path, mini_lvis, resnet18):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18, 'scratch')
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(resnet18)
    )
    refused(cfg, 'model.backbone.init_cfg', 'None from scratch')


def test_control_with_a_frozen_stage_is_refused(tmp_path, mini_lvis, resnet18):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18, 'finetuned')
    cfg.model.backbone.frozen_stages = 1
    refused(cfg, 'train every stage', 'conv1.weight')


def test_unknown_state_is_refused(config):
    config.default_hooks.frozen_guard.state = 'cold'
    with pytest.raises(ValueError, match="got 'cold'"):
        build(config)
