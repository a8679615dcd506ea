"""Large scale jitter on compact masks is MMDetection's, bit by bit."""

import copy

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.registry import DefaultScope

from mmfrozen.transforms import CompactMasks

from .scenes import polygons

SIZE = (96, 64)  # width, height of MMDetection


def jitter(load):
    """This pack's pipeline without the file and the packing."""
    steps = [
        dict(type=load, with_bbox=True, with_mask=True),
        dict(
            type='RandomResize',
            scale=SIZE,
            ratio_range=(0.1, 2.0),
            keep_ratio=True,
        ),
        dict(
            type='RandomCrop',
            crop_type='absolute',
            crop_size=SIZE,
            recompute_bbox=True,
            allow_negative_crop=True,
        ),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='Pad', size=SIZE, pad_val=dict(img=(114, 114, 114))),
    ]
    with DefaultScope.overwrite_default_scope('mmdet'):
        return Compose([TRANSFORMS.build(step) for step in steps])


STOCK, OURS = jitter('LoadAnnotations'), jitter('LoadCompactAnnotations')


def annotated(seed, count):
    """What a data set gives: polygons, a crowd, a polygon that is none."""
    rng = np.random.RandomState(seed)
    height, width = rng.randint(20, 120, 2).tolist()
    masks = [
        [p.tolist() for p in polygons(rng, height, width)]
        for _ in range(count)
    ]
    crowd = (rng.rand(height, width) < 0.2).astype(np.uint8)
    rle = coco_mask.encode(np.asfortranarray(crowd))
    masks += [dict(size=rle['size'], counts=rle['counts'].decode())]
    masks += [[[1, 1, 3, 3]]]
    instances = []
    for i, mask in enumerate(masks):
        x, y = (
            sorted(rng.uniform(0, width, 2)),
            sorted(rng.uniform(0, height, 2)),
        )
        instances.append(
            dict(
                bbox=[x[0], y[0], x[1], y[1]],
                bbox_label=i,
                ignore_flag=int(i == count),
                mask=mask,
            )
        )
    return dict(
        img=rng.randint(0, 255, (height, width, 3)).astype(np.uint8),
        img_path=f'{seed}.jpg',
        ori_shape=(height, width),
        img_shape=(height, width),
        instances=instances,
    )


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**31), st.integers(0, 6))
def test_jitter_is_mmdetections_at_the_same_draw(seed, count):
    info = annotated(seed, count)
    found = []
    for pipeline in (OURS, STOCK):
        np.random.seed(seed % 2**32)
        found.append(pipeline(copy.deepcopy(info)))
    ours, stock = found
    assert (ours is None) == (stock is None)
    if ours is None:
        return
    assert ours.keys() == stock.keys()
    np.testing.assert_array_equal(ours['img'], stock['img'])
    assert torch.equal(ours['gt_bboxes'].tensor, stock['gt_bboxes'].tensor)
    for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
        np.testing.assert_array_equal(ours[key], stock[key])
        assert ours[key].dtype == stock[key].dtype
    for key in ('homography_matrix', 'scale_factor', 'pad_shape', 'flip'):
        np.testing.assert_array_equal(ours[key], stock[key])
    assert isinstance(ours['gt_masks'], CompactMasks)
    assert ours['gt_masks']._masks is None
    np.testing.assert_array_equal(
        ours['gt_masks'].masks, stock['gt_masks'].masks
    )


def test_instances_without_masks_are_refused():
    info = annotated(1, 2)
    del info['instances'][1]['mask']
    with pytest.raises(ValueError, match='1 of 4 without in .1.jpg') as error:
        OURS(info)
    assert '\n' not in str(error.value)


def test_an_rle_of_another_size_than_its_image_is_refused():
    info = annotated(1, 2)
    info['instances'][2]['mask']['size'] = [7, 7]
    with pytest.raises(ValueError, match=r'size of its image .*\(7, 7\)'):
        OURS(info)


def test_polygons_are_left_alone_where_they_are_asked_for():
    info = annotated(1, 2)
    with DefaultScope.overwrite_default_scope('mmdet'):
        load = TRANSFORMS.build(
            dict(
                type='LoadCompactAnnotations', with_mask=True, poly2mask=False
            )
        )
    assert type(load(info)['gt_masks']).__name__ == 'PolygonMasks'
