"""A training step in bf16 and fp16, and what MMDetection rounds there."""

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from mmfrozen.models.heads import Float32RoIExtractor
from tests.configs.pack import PACK
from tests.configs.test_step import take_step

OPTIONS = dict(
    roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
    out_channels=4,
    featmap_strides=[4, 8],
)
LEVELS = [torch.randn(1, 4, 320, 320), torch.randn(1, 4, 160, 160)]
ROIS = torch.tensor([[0, 1021.3, 515.7, 1230.9, 700.1], [0, 3, 5, 90, 80.0]])


def test_in_fp32_it_is_mmdetections():
    ours, stock = Float32RoIExtractor(**OPTIONS), SingleRoIExtractor(**OPTIONS)
    assert torch.equal(ours(LEVELS, ROIS), stock(LEVELS, ROIS))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_boxes_are_not_rounded_in_mixed_precision(dtype):
    features = [x.to(dtype) for x in LEVELS]
    expected = SingleRoIExtractor(**OPTIONS)(
        [x.float() for x in features], ROIS
    )
    with torch.autocast('cpu', dtype):
        got = Float32RoIExtractor(**OPTIONS)(features, ROIS)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


def test_mmdetection_still_rounds_boxes():
    """If this fails, the class is not needed any more."""
    assert ROIS[0, 1].bfloat16() == 1020
    rounded = SingleRoIExtractor(**OPTIONS)(
        [x.bfloat16() for x in LEVELS], ROIS
    )
    exact = Float32RoIExtractor(**OPTIONS)(
        [x.bfloat16() for x in LEVELS], ROIS
    )
    assert (rounded.float() - exact).abs().max() > 0.03


@pytest.mark.parametrize(
    ('dtype', 'size'),
    [(torch.bfloat16, 128), (torch.float16, 64)],  # both crawl on CPUs
)
@pytest.mark.parametrize(
    'name', ['mask_rcnn_r50_12e_coco', 'retinanet_r50_fpn_12e_coco']
)
def test_training_step_in_mixed_precision_is_finite(name, dtype, size):
    with torch.autocast('cpu', dtype):
        model, total = take_step(PACK / f'frozen/{name}.py', size=size)
    assert total.isfinite()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.dtype == torch.float32, key
