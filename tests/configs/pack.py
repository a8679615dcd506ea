"""The config pack, found and loaded once for all of its tests."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from unittest import mock

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.config import utils as config_utils
from torch import nn

from tests.tiny import ROOT

PACK = ROOT / 'configs'
CONFIGS = sorted(
    p
    for p in PACK.rglob('*.py')
    if '_base_' not in p.parts and p.stem[0] != '_'
)
FROZEN = [p for p in CONFIGS if p.parent.name == 'frozen']
CONTROLS = [p for p in CONFIGS if p.parent.name in ('finetuned', 'scratch')]
THAWED = [p for p in CONFIGS if p.parent.name == 'thawed']

#: Of a backbone in a name: class or timm's name, and what it is filled from.
BACKBONES = {
    'r50': ('ResNet', 'torchvision://resnet50'),
    'r101': ('ResNet', 'torchvision://resnet101'),
    'rs101': ('resnetrs101', 'timm://resnetrs101.tf_in1k'),
    'b7': ('tf_efficientnet_b7', 'timm://tf_efficientnet_b7.aa_in1k'),
    'b7-ns': ('tf_efficientnet_b7', 'timm://tf_efficientnet_b7.ns_jft_in1k'),
    'lite0': (
        'tf_efficientnet_lite0',
        'data/weights/tf_efficientnet_lite0-2b4a5f7e.safetensors',
    ),
    'convnext-l': ('convnext_large', 'timm://convnext_large.fb_in22k'),
    'swin-l': (
        'swin_large_patch4_window12_384',
        'timm://swin_large_patch4_window12_384.ms_in22k',
    ),
    'dinov3-vit-l': (
        'vit_large_patch16_dinov3',
        'timm://vit_large_patch16_dinov3.lvd1689m',
    ),
    'dinov3-convnext-l': (
        'convnext_large',
        'timm://convnext_large.dinov3_lvd1689m',
    ),
}
#: Types of the detector and of its RoI head.
DETECTORS = {
    'faster_rcnn': ('BatchedTwoStageDetector', 'BatchedStandardRoIHead'),
    'mask_rcnn': ('BatchedTwoStageDetector', 'BatchedStandardRoIHead'),
    'cascade_rcnn': ('BatchedTwoStageDetector', 'BatchedCascadeRoIHead'),
    'cascade_mask_rcnn': ('BatchedTwoStageDetector', 'BatchedCascadeRoIHead'),
    'retinanet': ('RetinaNet', None),
}
NECKS = {
    None: 'AnySizeNASFPN',
    'fpn': 'FPN',
    'wide-fpn': 'FPN',
    'bifpn': 'AnySizeBiFPN',
    'sfp': 'mmfrozen.SimpleFeaturePyramid',
}
HEADS = ('2fc', '4conv1fc', 'rpn2-4conv1fc', '2-stage', 'wide-heads')
#: Losses of the box head's classes.
LOSSES = {
    None: 'CrossEntropyLoss',
    'seesaw': 'SeesawLoss',
    'eqlv2': 'mmfrozen.EQLv2',
    'federated': 'mmfrozen.FederatedLoss',
}
#: Epochs; None is the demo's.
SCHEDULES = {None: 72, '12e': 12, '36e': 36, '390e': 390, '600e': 600}
DATA = {
    'coco': ('data/coco/', 80),
    'lvis': ('data/lvis_v1/', 1203),
    'mini-lvis': ('data/mini_lvis/', 1203),
    'own': ('data/own/', 2),
}


def _any(names):
    names = sorted((n for n in names if n), key=len, reverse=True)
    return '|'.join(map(re.escape, names))


NAME = re.compile(
    rf'(?P<detector>{_any(DETECTORS)})_(?P<backbone>{_any(BACKBONES)})'
    rf'(_(?P<adapters>adapters))?(_(?P<neck>{_any(NECKS)}))?'
    rf'(_(?P<heads>{_any(HEADS)}))?(_(?P<schedule>{_any(SCHEDULES)}))?'
    rf'(_(?P<augmentation>scp))?(_(?P<sampling>uniform|irfs))?'
    rf'(_(?P<loss>{_any(LOSSES)}))?_(?P<dataset>{_any(DATA)})'
)


def slots(path: Path) -> dict[str, str | None]:
    """Slots of a config's name; fails if it follows no grammar."""
    parts = NAME.fullmatch(path.stem)
    assert parts, f'{path.stem} follows no grammar'
    return parts.groupdict()


def state(path: Path) -> str:
    """The folder of a config."""
    return path.parent.name


#: For every ``mmdet::`` base mmengine reads MMDetection's 100 metafiles anew.
_read_once = functools.cache(config_utils.load)


@functools.cache
def load(path: Path) -> Config:
    """Read a config once; not to be changed."""
    with mock.patch.object(config_utils, 'load', _read_once):
        return Config.fromfile(path)


@functools.cache
def build(path: Path) -> nn.Module:
    """Build a detector once without memory for its values, in training mode;
    not to be changed."""
    with torch.device('meta'):
        # a copy, for some heads change their config
        model = MODELS.build(copy.deepcopy(load(path).model))
    return model.train()


def inner(path: Path) -> dict:
    """Config of the classifier inside a backbone's."""
    backbone = load(path).model.backbone
    return backbone.get('backbone', backbone)


def flat(value, key=''):
    """Leaves of a config by dotted key."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, (list, tuple))
        else None
    )
    if items is None or not value:
        return {key: value}
    return {
        k: v
        for name, child in items
        for k, v in flat(child, f'{key}.{name}' if key else str(name)).items()
    }


def find(value, key):
    """Values of a key anywhere in a config."""
    return [v for k, v in flat(value).items() if k.split('.')[-1] == key]
