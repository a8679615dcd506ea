"""Every experiment with all of its keys, so small that a step takes tenths
of a second."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from tests.tiny import resnet18_weights

#: Small kin of the pack's classifiers: name, levels, channels.
KIN: dict[str, tuple[str, tuple[int, ...], list[int]]] = {
    'resnetrs101': ('resnet10t', (1, 2, 3, 4), [64, 128, 256, 512]),
    'tf_efficientnet_b7': (
        'tf_efficientnet_lite0',
        (1, 2, 3, 4),
        [24, 40, 112, 320],
    ),
    'tf_efficientnet_lite0': (
        'tf_efficientnet_lite0',
        (2, 3, 4),
        [40, 112, 320],
    ),
    'convnext_large': ('convnext_atto', (0, 1, 2, 3), [40, 80, 160, 320]),
    'swin_large_patch4_window12_384': (
        'swin_tiny_patch4_window7_224',
        (0, 1, 2, 3),
        [96, 192, 384, 768],
    ),
    'vit_large_patch16_dinov3': ('vit_small_patch16_dinov3', (11,), [384]),
}
WIDE = {
    'out_channels',
    'feat_channels',
    'conv_out_channels',
    'fc_out_channels',
}
SMALL = dict(nms_pre=50, max_per_img=20, num=16, stack_times=1)
PAIRS = ('scale', 'size', 'crop_size')
SIZE = (64, 64)


def prepare(
    folder: Path, mini_lvis: Path, kin: Iterable[str] | None = None
) -> dict[str, Path]:
    """Write weights and annotations; returns them by name."""
    files = {'resnet18': resnet18_weights(folder), 'lvis': mini_lvis}
    for name in kin or {kin[0] for kin in KIN.values()}:
        files[name] = folder / f'{name}.pth'
        torch.manual_seed(0)
        torch.save(timm.create_model(name).state_dict(), files[name])
    files['coco'] = folder / 'coco'
    for split in ('train', 'val'):
        source = mini_lvis / f'annotations/lvis_v1_{split}.json'
        write_coco(source, files['coco'], split)
    return files


def write_coco(source: Path, root: Path, split: str) -> None:
    """The same images with COCO's categories, in COCO's layout."""
    lvis = json.loads(source.read_text())
    names = CocoDataset.METAINFO['classes']
    for one in lvis['images']:
        one['file_name'] = '/'.join(one['coco_url'].split('/')[-2:])
    for i, one in enumerate(lvis['annotations']):
        one.update(category_id=i % len(names) + 1, iscrowd=0)
    lvis['categories'] = [
        dict(id=i, name=name) for i, name in enumerate(names, 1)
    ]
    path = root / f'annotations/instances_{split}2017.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(lvis))


def shrink(cfg: Config, files: dict[str, Path]) -> dict[str, Any]:
    """The same keys with small values: a real run takes its first step in
    less than a second on one core."""
    small = cfg.to_dict()
    small['load_from'] = None  # the first phase of a second one
    model = small['model']
    levels = _shrink_backbone(model['backbone'], files)
    _shrink_values(model)
    model['neck']['in_channels'] = levels
    is_lvis = 'lvis' in small['data_root']
    root = files['lvis' if is_lvis else 'coco']
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        small[key].update(num_workers=0, persistent_workers=False)
        small[key]['batch_size'] = 2
        _shrink_data(small[key], root, files['lvis'])
    for key in ('val_evaluator', 'test_evaluator'):
        _shrink_data(small[key], root, files['lvis'])
    loss = model.get('roi_head', {}).get('bbox_head', {})
    if isinstance(loss, dict) and 'frequencies' in loss.get('loss_cls', {}):
        path = root / 'annotations/lvis_v1_train.json'
        loss['loss_cls'].update(frequencies=str(path), num_fed_classes=5)
    return small


def _shrink_backbone(
    backbone: dict[str, Any], files: dict[str, Path]
) -> list[int]:
    inner = backbone.get('backbone', backbone)
    if 'model_name' in inner:
        name, inner['out_indices'], levels = KIN[inner['model_name']]
        inner['model_name'] = name
    else:
        name, levels = 'resnet18', [64, 128, 256, 512]
        inner['depth'] = 18
    if inner.get('init_cfg'):
        inner['init_cfg']['checkpoint'] = str(files[name])
    return levels


def _shrink_values(value: Any) -> None:
    """Widths and numbers of proposals, in place."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        if isinstance(item, (dict, list)):
            _shrink_values(item)
        elif key in WIDE or (key == 'in_channels' and item >= 64):
            value[key] = 16
        elif key in SMALL:
            value[key] = SMALL[key]


def _shrink_data(value: Any, root: Path, images: Path) -> None:
    """Paths and sizes, in place."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        if key in PAIRS:
            value[key] = SIZE
        elif key == 'data_root':
            value[key] = f'{root}/'
        elif key in ('ann_file', 'train_ann_file') and 'dataset' not in value:
            name = Path(item or '').name
            if name in ('train.json', 'val.json'):  # of one's own data
                name = f'instances_{Path(name).stem}2017.json'
            inside = f'annotations/{name}' if item else item
            is_data = 'data_root' in value
            value[key] = inside if is_data or not item else f'{root}/{inside}'
        elif key == 'data_prefix' and root != images:
            value[key] = dict(img=f'{images}/')
        elif isinstance(item, (dict, list)):
            _shrink_data(item, root, images)
