"""A detector learns the same from compact masks as from whole bitmaps."""

import copy

import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks

from mmfrozen.transforms import CompactMasks
from tests.tiny import build, tiny_config

from .datasets import mixed


def losses(model, batch):
    torch.manual_seed(0)
    np.random.seed(0)
    batch = model.data_preprocessor(batch, training=True)
    found = model(**batch, mode='loss')
    return {
        key: float(sum(value) if isinstance(value, list) else value)
        for key, value in found.items()
    }


@torch.no_grad()
def test_losses_of_pasted_samples_are_those_of_whole_bitmaps(
    tmp_path, mini_lvis, resnet18
):
    cfg = tiny_config(tmp_path, mini_lvis, resnet18)
    balanced = cfg.train_dataloader.dataset
    pipeline = list(balanced.dataset.pipeline)
    assert pipeline.pop()['type'] == 'PackDetInputs'
    for step in pipeline:
        if step['type'] == 'LoadAnnotations':
            step['type'] = 'LoadCompactAnnotations'
    balanced.dataset.pipeline = pipeline
    cfg.train_dataloader.dataset = mixed(balanced, selected=False)
    cfg.train_dataloader.sampler = dict(
        type='NumberedSampler',
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    runner = build(cfg)
    batch = next(iter(runner.train_dataloader))
    whole = copy.deepcopy(batch)
    for sample in whole['data_samples']:
        masks = sample.gt_instances.masks
        assert isinstance(masks, CompactMasks)
        sample.gt_instances.masks = BitmapMasks(
            masks.masks, masks.height, masks.width
        )
    model = runner.model.train()
    found = losses(model, batch)
    assert found == losses(model, whole)
    assert found['loss_mask'] > 0
