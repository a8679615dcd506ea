"""Checkpoints that leave the frozen backbone to its classifier."""

from pathlib import Path

import pytest
import torch

from mmfrozen.reports.verify import verify
from tests.tiny import build, tiny_config


def lean(folder, mini_lvis, resnet18, *, epochs=1):
    cfg = tiny_config(folder, mini_lvis, resnet18)
    cfg.default_hooks.frozen_guard.save_backbone = False
    cfg.train_cfg.max_epochs = epochs
    return cfg


def without_validation(cfg):
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    return cfg


@pytest.fixture(scope='module')
def trained(tmp_path_factory, mini_lvis, resnet18):
    """The file of a run of one epoch, with EMA."""
    folder = tmp_path_factory.mktemp('lean')
    cfg = without_validation(lean(folder, mini_lvis, resnet18))
    cfg.custom_hooks = [dict(type='EMAHook')]
    build(cfg).train()
    return folder / 'epoch_1.pth'


def test_the_file_refers_to_the_classifier(trained, resnet18):
    content = torch.load(trained, weights_only=False)
    for part in ('state_dict', 'ema_state_dict'):
        assert not any('backbone.' in name for name in content[part])
        assert any('neck.' in name for name in content[part])
    assert content['frozen_backbone']['classifier'] == str(resnet18)
    assert len(content['frozen_backbone']['digest']) == 32


def test_a_run_resumes_from_it(tmp_path, mini_lvis, resnet18, trained):
    cfg = without_validation(lean(tmp_path, mini_lvis, resnet18, epochs=2))
    cfg.custom_hooks = [dict(type='EMAHook', strict_load=True)]
    cfg.load_from, cfg.resume = str(trained), True
    runner = build(cfg)
    runner.train()
    assert runner.iter == 4
    assert (tmp_path / 'epoch_2.pth').exists()


def test_an_evaluation_has_the_backbone_of_the_classifier(
    tmp_path, mini_lvis, resnet18, trained
):
    cfg = lean(tmp_path, mini_lvis, resnet18)
    cfg.load_from = str(trained)
    runner = build(cfg)
    runner.val()
    own, classifier = runner.model.backbone.state_dict(), torch.load(resnet18)
    assert all(torch.equal(v, classifier[k]) for k, v in own.items())


def test_another_classifier_is_refused(tmp_path, mini_lvis, resnet18, trained):
    weights = torch.load(resnet18)
    weights['conv1.weight'][0, 0, 0, 0] += 1
    other = Path(tmp_path, 'other.pth')
    torch.save(weights, other)
    cfg = without_validation(lean(tmp_path / 'run', mini_lvis, other))
    cfg.load_from = str(trained)
    with pytest.raises(
        ValueError, match='must be loaded with the classifier'
    ) as caught:
        build(cfg).train()
    assert str(resnet18) in str(caught.value)
    assert str(other) in str(caught.value)


def test_verify_says_what_the_file_lacks(trained):
    with pytest.raises(ValueError, match='save_backbone=False'):
        verify(str(trained))


def test_a_backbone_that_trains_is_saved(tmp_path, mini_lvis, resnet18):
    cfg = tiny_config(tmp_path, mini_lvis, resnet18, 'finetuned')
    cfg.default_hooks.frozen_guard.save_backbone = False
    with pytest.raises(ValueError, match="got False and state='finetuned'"):
        build(cfg)
