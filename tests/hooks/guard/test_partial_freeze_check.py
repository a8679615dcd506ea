"""The guard over models that are frozen in part."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader

from tests.tiny import build, tiny_config


@HOOKS.register_module()
class NudgeNeck(Hook):
    """Somebody's hook that writes to a frozen neck."""

    def after_train_iter(self, runner, batch_idx, **_):
        with torch.no_grad():
            next(runner.model.neck.parameters()).add_(1)


@pytest.fixture
def config(tmp_path, mini_lvis, resnet18):
    """Two frozen stages and a frozen neck, both filled from files."""
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    backbone = cfg.model.backbone
    del backbone['frozen_stages'], backbone['norm_eval']
    cfg.model.backbone = dict(
        type='FrozenBackbone', frozen_stages=2, backbone=backbone
    )
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.frozen_guard.state = 'partial'
    detector = build(cfg).model
    detector.init_weights()
    cfg.load_from = str(tmp_path / 'detector.pth')
    torch.save(detector.state_dict(), cfg.load_from)
    cfg.model.neck = dict(type='FrozenModule', module=cfg.model.neck)
    cfg.work_dir = str(tmp_path / 'partial')
    return cfg


def test_frozen_parts_keep_their_bits_and_the_rest_trains(config):
    before = torch.load(config.load_from)
    build(config).train()
    after = CheckpointLoader.load_checkpoint(
        f'{config.work_dir}/epoch_1.pth', 'cpu'
    )['state_dict']
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    held = ('neck', 'backbone.conv1', 'backbone.layer1', 'backbone.layer2')
    assert not any(k.startswith(held) for k in moved)
    assert {'backbone.layer3.0.conv1.weight', 'rpn_head.rpn_cls.bias'} <= moved


def refused(cfg, *words):
    with pytest.raises((ValueError, RuntimeError)) as caught:
        build(cfg).train()
    message = str(caught.value).splitlines()[-1]
    for word in (*words, 'must', 'got'):
        assert word in message, message


def test_frozen_neck_that_no_file_has_filled_is_refused(config):
    config.load_from = None
    refused(config, 'random tensors', 'neck.')


def test_frozen_parts_in_the_optimizer_are_refused(config):
    del config.optim_wrapper.constructor
    refused(config, 'in the optimizer', 'TrainableOptimWrapperConstructor')


def test_frozen_neck_that_moves_is_refused(config):
    config.custom_hooks.append(dict(type='NudgeNeck'))
    refused(config, 'changed', 'neck.')


def test_partial_run_that_freezes_nothing_is_refused(
    tmp_path, mini_lvis, resnet18
):
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18, 'finetuned')
    cfg.default_hooks.frozen_guard.state = 'partial'
    refused(cfg, 'freeze something')
