"""Ways in which freezing silently fails, as somebody's code would do it."""

import copy

import torch
from mmcv.cnn.bricks import DropPath
from mmdet.models.backbones import ResNet
from mmdet.registry import HOOKS, MODELS
from mmengine.hooks import Hook
from mmengine.model import convert_sync_batchnorm
from torch import nn


@HOOKS.register_module()
class Harm(Hook):
    """Does one of the functions below at one stage of a run, once."""

    def __init__(self, name, stage, epoch=0, priority='NORMAL'):
        self.function, self.epoch = globals()[name], epoch
        setattr(self, stage, self.harm)
        self.priority = priority
        self.is_done = False

    def harm(self, runner, *args, checkpoint=None, **inputs):
        if runner.epoch == self.epoch and not self.is_done:
            self.is_done = True
            extra = () if checkpoint is None else (checkpoint,)
            self.function(runner, *extra)


def freeze_late(runner):
    runner.model.backbone.requires_grad_(False)


def thaw(runner):
    runner.model.backbone.layer4.requires_grad_(True)


def thaw_and_train(runner):
    layer = runner.model.backbone.layer4.requires_grad_(True)
    runner.optim_wrapper.optimizer.add_param_group(
        dict(params=list(layer.parameters()), lr=0.1)
    )


def give_to_optimizer(runner):
    runner.optim_wrapper.optimizer.add_param_group(
        dict(params=list(runner.model.backbone.layer1.parameters()))
    )


def convert_norms(runner):
    runner.model.backbone.layer1 = convert_sync_batchnorm(
        runner.model.backbone.layer1
    )


def wake_norm(runner):
    norm = runner.model.backbone.layer2[0].bn1
    norm.train = lambda mode=True: norm  # deaf to MMDetection's train()
    norm.training = True


def calibrate(runner):
    """Estimate the norms' statistics anew, as PreciseBN does."""
    backbone = runner.model.backbone
    nn.Module.train(backbone)
    with torch.no_grad():
        backbone(torch.randn(2, 3, 64, 64))
    backbone.train()


def average_over_three(runner):
    """SyncBuffersHook in three processes: their sum, divided by 3."""
    for tensor in runner.model.backbone.buffers():
        if tensor.is_floating_point():
            tensor.copy_((tensor + tensor + tensor) / 3)


def average_in_file(runner, checkpoint):
    """An average that began before the classifier was loaded."""
    weights = checkpoint['state_dict']
    key = 'backbone.layer3.0.conv1.weight'
    weights[key] = weights[key] * 0.9


def share_with_head(runner):
    head = runner.model.roi_head.mask_head.convs[0].conv
    head.weight.data = runner.model.backbone.layer1[0].conv1.weight.data[
        :16, :16
    ]


def train_before_backbone(runner):
    gain = nn.Parameter(torch.ones(1))
    runner.model.backbone.register_forward_pre_hook(
        lambda module, inputs: (inputs[0] * gain,)
    )


def load_other_weights(runner):
    state = runner.model.backbone.state_dict()
    state['conv1.weight'] = state['conv1.weight'] + 1e-7
    runner.model.backbone.load_state_dict(state)


def decay_by_hand(runner):
    for parameter in runner.model.parameters():
        parameter.data.mul_(1 - 1e-4)


def cast_to_half(runner):
    runner.model.backbone.half().float()


def add_adapter(runner):
    block = runner.model.backbone.layer4[0]
    block.conv2 = nn.Sequential(block.conv2, nn.Conv2d(512, 512, 1))


def copy_backbone(runner):
    runner.model.backbone = copy.deepcopy(runner.model.backbone)


@MODELS.register_module()
class ThawingResNet(ResNet):
    """Its `train()` undoes what MMDetection's did."""

    def train(self, mode=True):
        super().train(mode)
        self.layer4.requires_grad_(mode)


@MODELS.register_module()
class PathResNet(ResNet):
    """Drops paths outside the stages that MMDetection's `train()` knows."""

    def __init__(self, **options):
        super().__init__(**options)
        self.drop_path = DropPath(0.5)


@MODELS.register_module()
class OneNormResNet(ResNet):
    """Its `norm_eval` knows one class of norms, as EfficientNet's does."""

    def train(self, mode=True):
        nn.Module.train(self, mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
