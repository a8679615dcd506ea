"""Results do not depend on the pieces that bound the memory."""

import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmengine.structures import InstanceData

from mmfrozen.models.batched.assign import assign
from mmfrozen.models.batched.mask_targets import mask_targets, pack_masks
from mmfrozen.models.batched.truth import Truth

from .conftest import make_batch
from .test_steps import boxes


def truth_of(batch):
    return Truth.of_samples(
        [s.clone() for s in batch['data_samples']], torch.device('cpu')
    )


def test_assignment_in_pieces_is_that_of_mmdetection():
    truth = truth_of(make_batch([boxes(9, 0), boxes(2, 1)]))
    priors = torch.tensor(boxes(333, 5)).float()
    for every in (True, False):
        assigner = MaxIoUAssigner(
            0.5, 0.4, 0.1, gt_max_assign_all=every, match_low_quality=True
        )
        whole = assign(assigner, priors[None], None, truth)
        pieces = assign(assigner, priors[None], None, truth, pairs=1000)
        assert torch.equal(whole, pieces)
        for i in range(2):
            own = truth.boxes[i][truth.valid[i]]
            labels = torch.zeros(len(own), dtype=torch.long)
            wanted = assigner.assign(
                InstanceData(priors=priors),
                InstanceData(bboxes=own, labels=labels),
            )
            assert torch.equal(whole[i], wanted.gt_inds)


def test_masks_in_pieces_give_the_same_targets():
    batch = make_batch([boxes(5, 0), boxes(7, 1)])
    truth = truth_of(batch)
    masks = pack_masks(truth.masks, torch.device('cpu'))
    found = truth.boxes[truth.valid]
    images = torch.tensor([0] * 5 + [1] * 7)
    objects = torch.arange(12)
    whole, pieces = (
        mask_targets(
            masks, found, images, objects, (28, 28), binary=True, pixels=p
        )
        for p in (2**27, 40_000)
    )
    assert whole.mean() > 0.5
    assert torch.equal(whole, pieces)
