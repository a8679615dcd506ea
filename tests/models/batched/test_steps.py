"""Batched detectors take the training step of MMDetection's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.mask import PolygonMasks

from mmfrozen.models.batched import fallback

from .conftest import assert_equal_steps, build_pair, config, make_batch, run


def boxes(count, seed, size=128):
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, size * 0.8, (count, 2))
    wh = rng.uniform(4, size * 0.5, (count, 2))
    return np.concatenate((xy, np.minimum(xy + wh, size)), axis=1)


@pytest.mark.parametrize('cascade', [False, True])
@pytest.mark.parametrize('agnostic', [False, True])
def test_mask_detectors_have_the_losses_and_gradients_of_mmdetection(
    cascade, agnostic
):
    batch = make_batch([boxes(5, 0), boxes(1, 1), boxes(12, 2)])
    losses = assert_equal_steps(config(cascade, agnostic), batch)
    assert losses['s1.loss_mask' if cascade else 'loss_mask'] > 0


@pytest.mark.parametrize('cascade', [False, True])
def test_box_detectors_have_the_losses_and_gradients_of_mmdetection(cascade):
    batch = make_batch([boxes(4, 3), boxes(0, 3)], masks=False)
    assert_equal_steps(config(cascade, masks=False), batch)


@pytest.mark.parametrize('cascade', [False, True])
def test_a_batch_without_objects_is_background(cascade):
    batch = make_batch([boxes(0, 0), boxes(0, 0)])
    losses = assert_equal_steps(config(cascade), batch)
    assert losses['loss_rpn_bbox'] == 0


def test_ignored_regions_are_neither_positive_nor_background():
    batch = make_batch(
        [boxes(3, 0), boxes(4, 1), boxes(0, 2)],
        ignored=[[[10, 10, 90, 90]], [], [[0, 0, 60, 60]]],
    )
    assert_equal_steps(config(ignore=0.5), batch)


def test_images_of_several_sizes_are_padded_and_clipped_as_by_mmdetection():
    batch = make_batch(
        [boxes(3, 0, 96), boxes(4, 1, 96)], shapes=[(96, 128), (128, 97)]
    )
    assert_equal_steps(config(), batch)


def test_anchors_over_the_edge_are_left_out_if_they_must_be():
    batch = make_batch(
        [boxes(3, 0, 96), boxes(4, 1)], shapes=[(96, 128), (128, 128)]
    )
    assert_equal_steps(config(border=0), batch)


@pytest.mark.parametrize(
    'change',
    [
        dict(pos_weight=2.5),
        dict(low_quality=True),
        dict(mask_head=dict(class_agnostic=True)),
        dict(
            mask_head=dict(upsample_cfg=dict(type='bilinear', scale_factor=2))
        ),
        dict(
            box_head=dict(
                loss_bbox=dict(type='GIoULoss'), reg_decoded_bbox=True
            )
        ),
        dict(
            box_head=dict(
                loss_cls=dict(
                    type='CrossEntropyLoss',
                    class_weight=[1.0, 2, 3, 4, 5, 6, 7, 0.5],
                )
            )
        ),
        dict(box_head=dict(num_shared_fcs=0, num_cls_fcs=1, num_reg_convs=1)),
        dict(box_head=dict(with_avg_pool=True, num_shared_fcs=0)),
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize('cascade', [False, True])
def test_options_of_heads_are_followed(change, cascade):
    batch = make_batch([boxes(5, 0), boxes(9, 1)])
    assert_equal_steps(config(cascade, **change), batch)


corners = st.tuples(
    st.integers(0, 120),
    st.integers(0, 120),
    st.integers(1, 128),
    st.integers(1, 128),
).map(lambda t: (t[0], t[1], min(128, t[0] + t[2]), min(128, t[1] + t[3])))
images = st.lists(st.lists(corners, max_size=12), min_size=1, max_size=3)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(images, images, st.booleans(), st.booleans())
def test_any_boxes_give_the_step_of_mmdetection(
    objects, regions, cascade, agnostic
):
    regions = (regions * 3)[: len(objects)]
    regions += [[]] * (len(objects) - len(regions))
    batch = make_batch(objects, ignored=regions)
    assert_equal_steps(config(cascade, agnostic, ignore=0.5), batch)


def test_crowded_images_give_the_step_of_mmdetection():
    batch = make_batch([boxes(500, 0), boxes(3, 1)], masks=False)
    assert_equal_steps(config(masks=False), batch)


def test_what_has_no_batched_form_is_logged_once(monkeypatch):
    lines = []
    monkeypatch.setattr(fallback, 'print_log', lambda x, **_: lines.append(x))
    _, detector = build_pair(config())
    detector.train_cfg.rpn_proposal.nms.type = 'soft_nms'
    batch = make_batch([boxes(5, 0), boxes(1, 1)])
    for sample in batch['data_samples']:
        masks = sample.gt_instances.masks
        sample.gt_instances.masks = PolygonMasks(
            [[np.array([0.0, 0, 9, 0, 9, 9])] for _ in masks],
            masks.height,
            masks.width,
        )
    for _ in range(2):
        run(detector, batch)
    assert len(lines) == 2
    assert 'masks of type PolygonMasks has no batched form' in lines[0]
    assert "'soft_nms'" in lines[1] and 'of proposals' in lines[1]
