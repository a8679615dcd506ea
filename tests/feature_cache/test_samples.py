"""Data samples as bytes, and back."""

import msgspec
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData

from mmfrozen.feature_cache.samples import decode, encode


def make_sample(num_objects):
    """What a detector with masks and stuff trains on."""
    rng = np.random.RandomState(num_objects)
    masks = rng.rand(num_objects, 20, 30) > 0.6
    sample = DetDataSample(
        metainfo=dict(
            img_id=7,
            img_path='a/b.jpg',
            ori_shape=(40, 60),
            scale_factor=(0.5, np.float64(0.5)),
            flip=True,
            flip_direction=None,
            neg_labels=[1, np.int64(5)],
            homography=np.eye(3, dtype=np.float32),
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.rand(num_objects, 4),
        labels=torch.arange(num_objects),
        masks=BitmapMasks(masks.astype(np.uint8), 20, 30),
    )
    sample.ignored_instances = InstanceData(bboxes=torch.rand(2, 4))
    sample.gt_sem_seg = PixelData(sem_seg=torch.ones(1, 20, 30).byte())
    return sample


@pytest.mark.parametrize('num_objects', [0, 1, 5])
def test_a_data_sample_is_what_it_was(num_objects):
    sample = make_sample(num_objects)
    found = decode(encode(sample))
    for key, value in sample.metainfo.items():
        other = found.metainfo[key]
        assert type(other) is type(value)
        assert np.array_equal(other, value), key
    for name in ('bboxes', 'labels'):
        a, b = (s.gt_instances[name] for s in (sample, found))
        assert a.dtype == b.dtype and torch.equal(a, b)
    masks = found.gt_instances.masks
    assert isinstance(masks, BitmapMasks)
    assert np.array_equal(masks.masks, sample.gt_instances.masks.masks)
    assert torch.equal(
        found.ignored_instances.bboxes, sample.ignored_instances.bboxes
    )
    assert torch.equal(found.gt_sem_seg.sem_seg, sample.gt_sem_seg.sem_seg)
    assert encode(found) == encode(sample)


@pytest.mark.parametrize(
    'value',
    [
        PolygonMasks([[np.zeros(6)]], 20, 30),
        HorizontalBoxes(torch.rand(1, 4)),
        {1},
    ],
    ids=['polygons', 'boxes', 'set'],
)
def test_what_cannot_be_kept_is_named(value):
    sample = make_sample(1)
    sample.gt_instances = InstanceData(things=value)
    with pytest.raises(ValueError, match='must have data samples of') as found:
        encode(sample)
    assert type(value).__name__ in str(found.value)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'\x93',
        msgspec.msgpack.encode(['element', 'Popen', {}, {}]),
        msgspec.msgpack.encode(['tensor', 'float32', [9], b'1234']),
        msgspec.msgpack.encode(['tensor', 'load', [1], b'1234']),
        msgspec.msgpack.encode(['masks', 2, 2, [[0, 0, 9, 9]], b'1']),
        msgspec.msgpack.encode(['element', 'InstanceData', {}, {'items': 1}]),
    ],
)
def test_bytes_that_are_no_data_sample_are_refused(content):
    with pytest.raises(ValueError):
        decode(content)
