"""What bounds the memory and the operators of a step changes no result."""

import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmfrozen.models.batched.assign import assign
from mmfrozen.models.batched.mask_targets import mask_targets, pack_masks
from mmfrozen.models.batched.truth import BatchGroundTruth, Padded

from .conftest import build_pair, config, make_batch, run
from .test_steps import boxes


def truth_of(batch):
    return BatchGroundTruth.of_samples(
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


@pytest.mark.parametrize('cascade', [False, True])
def test_logits_and_deltas_of_all_classes_are_never_computed(cascade):
    fast = build_pair(config(cascade))[1]

    def refuse(*_):
        raise AssertionError('all classes were computed')

    heads = fast.roi_head
    last_layers = [
        module
        for name, module in heads.named_modules()
        if name.endswith(('conv_logits', 'fc_reg'))
    ]
    assert len(last_layers) == (6 if cascade else 2)
    for layer in last_layers:
        layer.register_forward_hook(refuse)
    losses, grads = run(fast, make_batch([boxes(5, 0), boxes(3, 1)]))
    assert losses['loss'] > 0
    assert {n for n in grads if n.endswith('conv_logits.weight')}


class CountOperators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_targets_and_losses_take_no_more_operators_for_more_images():
    fast = build_pair(config())[1]
    counts = {}
    for images in (2, 8):
        batch = make_batch([boxes(5, 0)] * images)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            data = fast.data_preprocessor(batch, True)
            truth = BatchGroundTruth.of_samples(
                data['data_samples'], torch.device('cpu')
            )
            x, outputs = fast.run_static(data['inputs'])
            with CountOperators() as counter:
                flat = fast.rpn_head.collect(*outputs)
                fast.rpn_head.batched_loss(flat, truth)
                proposals = Padded(
                    truth.boxes.repeat(1, 20, 1),
                    truth.valid.repeat(1, 20),
                )
                masks = fast.roi_head.pack_masks(truth)
                fast.roi_head.batched_loss(x, proposals, truth, masks)
        counts[images] = counter.count
    assert counts[8] <= counts[2] * 1.02, counts
