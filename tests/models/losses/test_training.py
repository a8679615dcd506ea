"""A run with IRFS and the federated loss, from its files to a checkpoint."""

import json

import pytest
import torch
from mmengine.config import Config

from tests.tiny import ROOT, build, tiny_config


def long_tailed(tmp_path, mini_lvis, resnet18):
    """The pack's IRFS and federated loss in the tiny detector."""
    cfg = tiny_config(tmp_path, mini_lvis, resnet18)
    name = 'mask_rcnn_r101_irfs_federated_lvis.py'
    variant = Config.fromfile(ROOT / 'configs/frozen' / name)
    ours = cfg.model.roi_head.bbox_head
    theirs = variant.model.roi_head.bbox_head
    ours.cls_predictor_cfg = theirs.cls_predictor_cfg
    ours.loss_cls = theirs.loss_cls
    # 24 images do not hold 50 classes
    ours.loss_cls.update(
        frequencies=f'{mini_lvis}/annotations/lvis_v1_train.json',
        num_fed_classes=10,
    )
    cfg.train_dataloader.dataset.type = variant.train_dataloader.dataset.type
    cfg.train_dataloader.dataset.oversample_thr = 0.02
    cfg.train_cfg.max_epochs = 1
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    return cfg


def test_run_reads_its_frequencies_and_keeps_them_out_of_checkpoints(
    tmp_path, mini_lvis, resnet18
):
    cfg = long_tailed(tmp_path, mini_lvis, resnet18)
    runner = build(cfg)
    runner.train()
    file = json.loads(
        (mini_lvis / 'annotations/lvis_v1_train.json').read_text()
    )
    counts = torch.tensor([c['image_count'] for c in file['categories']])
    loss = runner.model.roi_head.bbox_head.loss_cls
    torch.testing.assert_close(loss._weights, counts.sqrt())
    state = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    assert not any('loss_cls' in name for name in state['state_dict'])
    assert runner.message_hub.get_scalar('train/loss_cls').current() > 0


def test_missing_file_of_frequencies_ends_the_run_before_its_first_step(
    tmp_path, mini_lvis, resnet18
):
    cfg = long_tailed(tmp_path, mini_lvis, resnet18)
    cfg.model.roi_head.bbox_head.loss_cls.frequencies = 'nowhere.json'
    runner = build(cfg)
    with pytest.raises(FileNotFoundError, match='frequencies must be an exi'):
        runner.train()
    assert runner.iter == 0
