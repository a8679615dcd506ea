"""Batched detectors predict what MMDetection's do."""

import copy

import pytest
import torch

from .conftest import build_pair, config, make_batch
from .test_steps import boxes


@pytest.mark.parametrize('cascade', [False, True])
@pytest.mark.parametrize('rescale', [False, True])
def test_boxes_and_masks_are_those_of_mmdetection(cascade, rescale):
    settings = config(cascade)
    settings.test_cfg.rcnn.mask_thr_binary = -1  # probabilities, not bits
    pair = build_pair(settings)
    batch = make_batch([boxes(3, 0), boxes(2, 1)])
    found = []
    for model in pair:
        model.eval()
        data = model.data_preprocessor(copy.deepcopy(batch))
        with torch.no_grad():
            samples = model.predict(**to_predict(data), rescale=rescale)
        found.append([s.pred_instances for s in samples])
    for wanted, ours in zip(*found, strict=True):
        assert len(wanted) == 20
        assert torch.equal(ours.labels, wanted.labels)
        assert torch.allclose(ours.bboxes, wanted.bboxes, atol=1e-3)
        difference = ours.masks.int() - wanted.masks.int()
        assert difference.abs().max() <= 1  # of 255
        assert wanted.masks.any()


def to_predict(data):
    return dict(
        batch_inputs=data['inputs'], batch_data_samples=data['data_samples']
    )
