"""A step of milliseconds that draws random numbers, on real data."""

import random

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from torch import nn

from tests.tiny import tiny_config


@MODELS.register_module()
class Noisy(BaseModel):
    """Its loss depends on images, boxes, torch's and Python's numbers."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.Dropout(0.5)
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'predict':
            return data_samples
        boxes = [x.gt_instances.bboxes.tensor.sum() for x in data_samples]
        image = torch.stack([self.body(x[None] / 255).mean() for x in inputs])
        target = torch.stack(boxes) / 1000 * random.random()
        return {'loss': ((image - target) ** 2).mean()}


def noisy_config(folder, data, name):
    """A run with the pack's data, schedule and hooks, but for those that
    look at a detector."""
    cfg = tiny_config(folder / name, data, folder / 'none.pth')
    cfg.model = dict(type='Noisy')
    cfg.custom_hooks = []
    for hook in ('frozen_guard', 'drift', 'step_cost'):
        del cfg.default_hooks[hook]
    cfg.optim_wrapper.constructor = 'DefaultOptimWrapperConstructor'
    return cfg
