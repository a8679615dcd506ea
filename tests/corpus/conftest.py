"""Made data and the config that all of them inherit."""

import json

import numpy as np
import pytest
from PIL import Image

BASE = """
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
custom_imports = dict(
    imports=['tests.corpus.third_party'], allow_failed_imports=False)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs'),
]
data = dict(
    type='CocoDataset', data_root='{{fileDirname}}/data/',
    ann_file='train.json', data_prefix=dict(img=''),
    metainfo=dict(classes=('a', 'b')), pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
        _delete_=True, **data))
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='{{fileDirname}}/r18.pth')),
    neck=dict(out_channels=16),
    bbox_head=dict(
        num_classes=2, in_channels=16, feat_channels=16, stacked_convs=1))
train_cfg = dict(max_epochs=1)
log_level = 'WARNING'
"""


@pytest.fixture(scope='session')
def workspace(tmp_path_factory, resnet18):
    """A folder with 4 images of 64 x 64, 2 rectangles in each."""
    folder = tmp_path_factory.mktemp('workspace')
    (folder / 'data').mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(1, 5):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        for k in range(2):
            x, y = (int(v) for v in rng.integers(0, 30, 2))
            pixels[y : y + 24, x : x + 30] = (255 * k, 40, 90)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=k + 1,
                    bbox=[x, y, 30, 24],
                    area=720,
                    iscrowd=0,
                )
            )
        Image.fromarray(pixels).save(folder / f'data/{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
    categories = [dict(id=1, name='a'), dict(id=2, name='b')]
    (folder / 'data/train.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )
    (folder / 'r18.pth').write_bytes(resnet18.read_bytes())
    (folder / 'base.py').write_text(BASE)
    return folder
