"""What somebody's own workspace registers: backbones, necks, detectors."""

import torch
from mmdet.models import BaseDetector
from mmdet.models.backbones import ResNet
from mmdet.models.dense_heads import RetinaHead
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.registry import HOOKS
from torch import nn
from torchvision.models import resnet18


@MODELS.register_module()
class LoadsInConstructor(ResNet):
    """Its weights are an argument of its own."""

    def __init__(self, weights, **options):
        super().__init__(**options)
        self.load_state_dict(torch.load(weights), strict=False)

    def init_weights(self):
        """Nothing is left to do."""


@MODELS.register_module()
class LoadsInInitWeights(ResNet):
    """The same, where MMEngine asks for it."""

    def __init__(self, weights, **options):
        super().__init__(**options)
        self.weights = weights

    def init_weights(self):
        """Fill what the config says."""
        self.load_state_dict(torch.load(self.weights), strict=False)


@MODELS.register_module()
class TorchvisionBody(BaseModule):
    """A torchvision network inside; no stages, no `frozen_stages`."""

    def __init__(self, weights, init_cfg=None):
        super().__init__(init_cfg)
        self.body = resnet18()
        self.body.load_state_dict(torch.load(weights))
        del self.body.fc

    def init_weights(self):
        """Nothing is left to do."""

    def forward(self, x):
        """Four levels."""
        body, levels = self.body, []
        x = body.maxpool(body.relu(body.bn1(body.conv1(x))))
        for i in range(1, 5):
            x = getattr(body, f'layer{i}')(x)
            levels.append(x)
        return tuple(levels)


@MODELS.register_module()
class UnderNoGrad(TorchvisionBody):
    """The usual wrapper of a foundation model."""

    @torch.no_grad()
    def forward(self, x):
        """The same, without gradients."""
        return super().forward(x)


@MODELS.register_module()
class UnderInferenceMode(TorchvisionBody):
    """The stricter wrapper; clones can be saved for a backward pass."""

    def forward(self, x):
        """The same, by inference."""
        with torch.inference_mode():
            levels = super().forward(x)
        return tuple(level.clone() for level in levels)


@MODELS.register_module()
class ReturnsList(ResNet):
    """Levels as a list, and a `train` of its own."""

    def forward(self, x):
        """Levels as a list."""
        return list(super().forward(x))

    def train(self, mode=True):
        """Its own idea of training."""
        super().train(mode)
        return self


@MODELS.register_module()
class DropsInForward(ResNet):
    """Dropout by the functional form."""

    def forward(self, x):
        """Drop some of the last level."""
        levels = super().forward(x)
        last = nn.functional.dropout(levels[-1], 0.1, self.training)
        return (*levels[:-1], last)


@MODELS.register_module()
class NamedNorms(ResNet):
    """LayerNorms on its outputs, which no classifier has."""

    def __init__(self, **options):
        super().__init__(**options)
        for i, width in enumerate((64, 128, 256, 512)):
            self.add_module(f'norm_{i}', nn.GroupNorm(1, width))

    def forward(self, x):
        """Normalised levels."""
        levels = super().forward(x)
        return tuple(
            getattr(self, f'norm_{i}')(x) for i, x in enumerate(levels)
        )


@MODELS.register_module()
class PlainNeck(BaseModule):
    """A neck that shares no attribute with MMDetection's."""

    def __init__(self, widths, width, extra=1):
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(w, width, 1) for w in widths)
        self.channels, self.extra = 'same', extra

    def forward(self, levels):
        """Reduce, and add pooled levels."""
        outs = [conv(x) for conv, x in zip(self.reduce, levels, strict=True)]
        for _ in range(self.extra):
            outs.append(nn.functional.max_pool2d(outs[-1], 1, 2))
        return tuple(outs)


@MODELS.register_module()
class SkipsLevel(FPN):
    """Takes four levels, uses the last three."""

    def __init__(self, in_channels, **options):
        super().__init__(in_channels=in_channels[1:], **options)

    def forward(self, levels):
        """Without the first level."""
        return super().forward(levels[1:])


@MODELS.register_module()
class OwnHead(RetinaHead):
    """A head with a layer of its own."""

    def _init_layers(self):
        super()._init_layers()
        self.scale = nn.Parameter(torch.ones(()))

    def forward_single(self, x):
        """Scaled features."""
        return super().forward_single(x * self.scale)


@MODELS.register_module()
class DetectorInDetector(BaseDetector):
    """A detector around another, as teachers and trackers are."""

    def __init__(self, detector, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.detector = MODELS.build(detector)

    def loss(self, *args):
        """The inner one's."""
        return self.detector.loss(*args)

    def predict(self, *args):
        """The inner one's."""
        return self.detector.predict(*args)

    def extract_feat(self, inputs):
        """The inner one's."""
        return self.detector.extract_feat(inputs)

    def _forward(self, *args):
        return self.detector._forward(*args)


@HOOKS.register_module()
class CountsSteps(Hook):
    """A hook of somebody's workspace."""

    def after_train_iter(self, runner, batch_idx, **_):
        """Count."""
        self.steps = batch_idx + 1
