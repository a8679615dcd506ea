"""Batches are prepared as by MMDetection, with fewer copies."""

import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS

import mmfrozen  # noqa: F401

from .conftest import make_batch
from .test_steps import boxes

SETTINGS = dict(
    mean=[120.0, 110.0, 100.0], std=[50.0, 60.0, 70.0], pad_mask=True
)


def prepare(kind, batch, **options):
    built = MODELS.build(dict(type=kind, **SETTINGS, **options))
    return built(copy.deepcopy(batch), True)


@pytest.mark.parametrize('to_rgb', [False, True])
@pytest.mark.parametrize(
    'shapes', [[(96, 128)] * 2, [(96, 128), (128, 97)], [(96, 100)] * 2]
)
def test_images_masks_and_information_are_those_of_mmdetection(shapes, to_rgb):
    batch = make_batch([boxes(3, 0, 90), boxes(4, 1, 90)], shapes=shapes)
    options = dict(bgr_to_rgb=to_rgb, pad_size_divisor=32)
    wanted, found = (
        prepare(kind, batch, **options)
        for kind in ('DetDataPreprocessor', 'BatchedDetDataPreprocessor')
    )
    assert torch.equal(found['inputs'], wanted['inputs'])
    for one, other in zip(
        found['data_samples'], wanted['data_samples'], strict=True
    ):
        assert one.metainfo == other.metainfo
        masks, others = one.gt_instances.masks, other.gt_instances.masks
        assert np.array_equal(masks.masks, others.masks)


def test_masks_of_the_size_of_the_batch_are_not_copied():
    batch = make_batch([boxes(3, 0)])
    before = batch['data_samples'][0].gt_instances.masks
    built = MODELS.build(dict(type='BatchedDetDataPreprocessor', **SETTINGS))
    data = built(batch, True)
    assert data['data_samples'][0].gt_instances.masks is before
