"""The federated loss is Detectron2's, in MMDetection's and batched heads."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS

from mmfrozen.models.losses import FederatedLoss, federated_loss
from tests.models.batched.conftest import (
    assert_equal_steps,
    build_pair,
    config,
    make_batch,
    run,
)
from tests.models.batched.test_steps import boxes

COUNTS = [1, 4, 9, 100, 0, 25, 400, 16, 2, 49]


def detectron2_loss(logits, labels, image_counts, num_fed_classes):
    """``FastRCNNOutputLayers.sigmoid_cross_entropy_loss`` and what it calls,
    for ``use_fed_loss``."""
    count = logits.shape[1] - 1
    target = torch.zeros(len(labels), count + 1)
    target[range(len(labels)), labels] = 1
    losses = F.binary_cross_entropy_with_logits(
        logits[:, :-1], target[:, :-1], reduction='none'
    )
    unique = torch.unique(labels)
    classes = unique
    if len(unique) < num_fed_classes:
        prob = torch.zeros(count + 1)
        prob[:-1] = torch.tensor(image_counts).float() ** 0.5
        prob[unique] = 0
        number = num_fed_classes - len(unique)
        classes = torch.cat((unique, torch.multinomial(prob, number)))
    mask = torch.zeros(count + 1)
    mask[classes] = 1
    return (losses * mask[:-1]).sum() / len(labels)


@pytest.mark.parametrize('num_fed_classes', [1, 3, 6, 9])
def test_loss_and_gradient_are_those_of_detectron2(num_fed_classes):
    loss = FederatedLoss(COUNTS, num_fed_classes)
    for seed in range(20):
        torch.manual_seed(seed)
        labels = torch.randint(0, 11, (7,))
        ours = torch.randn(7, 11, requires_grad=True)
        theirs = ours.detach().clone().requires_grad_()
        torch.manual_seed(seed)
        expected = detectron2_loss(theirs, labels, COUNTS, num_fed_classes)
        torch.manual_seed(seed)
        found = loss(ours, labels, torch.ones(7), avg_factor=7.0)
        torch.testing.assert_close(found, expected)
        (grad,) = torch.autograd.grad(found, ours)
        (expected_grad,) = torch.autograd.grad(expected, theirs)
        torch.testing.assert_close(grad, expected_grad)


def test_loss_of_one_region_by_hand():
    """Two classes count: the region's own, and one of weight, not of none."""
    loss = FederatedLoss([4, 0, 9], num_fed_classes=2)
    logits = torch.tensor([[0.0, 5.0, 0.0, 7.0]])
    # -log(sigmoid(0)) for its class, -log(1 - sigmoid(0)) for the other
    found = loss(logits, torch.tensor([0]))
    assert found.item() == pytest.approx(2 * 0.693147, rel=1e-5)


def test_negatives_are_drawn_by_the_root_of_their_number_of_images():
    loss = FederatedLoss([1, 4, 25, 0], num_fed_classes=1)
    torch.manual_seed(0)
    drawn = sum(
        loss.draw_classes(torch.zeros(1, 4), torch.zeros(0).long())
        for _ in range(4000)
    )
    share = drawn / 4000
    expected = torch.tensor([1, 2, 5, 0]) / 8
    torch.testing.assert_close(share, expected, atol=0.03, rtol=0)


def test_processes_of_one_seed_draw_other_classes(monkeypatch):
    loss = FederatedLoss([9] * 40, num_fed_classes=10)
    monkeypatch.setattr(federated_loss, 'get_world_size', lambda: 2)
    drawn = []
    for rank in range(2):
        monkeypatch.setattr(federated_loss, 'get_rank', lambda r=rank: r)
        torch.manual_seed(0)
        drawn.append(loss.draw_classes(torch.zeros(1, 40), torch.tensor([3])))
    assert [int(d.sum()) for d in drawn] == [10, 10]
    assert drawn[0][3] == drawn[1][3] == 1
    assert not torch.equal(*drawn)


@pytest.mark.parametrize('reduction', ['none', 'sum', None])
def test_weights_and_reductions_are_those_of_mmdetections_losses(reduction):
    loss = FederatedLoss([1, 1], num_fed_classes=2, loss_weight=2)
    logits, labels = torch.randn(3, 3), torch.tensor([0, 1, 2])
    weight = torch.tensor([1.0, 0.5, 0])
    target = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    each = F.binary_cross_entropy_with_logits(
        logits[:, :2], target, reduction='none'
    )
    expected = 2 * each.sum(1) * weight
    found = loss(logits, labels, weight, reduction_override=reduction)
    if reduction is None:
        expected = expected.mean()
    elif reduction == 'sum':
        expected = expected.sum()
    torch.testing.assert_close(found, expected)


def test_half_precision_is_summed_in_full():
    loss = FederatedLoss([1, 1], num_fed_classes=2)
    logits, labels = torch.randn(3, 3).bfloat16(), torch.tensor([0, 1, 2])
    found = loss(logits, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits.float(), labels))


def test_accuracy_is_of_objects_alone():
    loss = FederatedLoss([1, 1], num_fed_classes=1)
    scores = torch.tensor([[2.0, 1, 9], [2, 1, 9], [2, 1, 9]])
    accuracy = loss.get_accuracy(scores, torch.tensor([0, 1, 2]))
    assert accuracy['acc_classes'] == 50
    assert loss.get_accuracy(scores, torch.full((3,), 2))['acc_classes'] == 0


def federated(cascade=False, counts=(3, 1, 4, 1, 5, 9, 2)):
    return config(
        cascade,
        box_head=dict(
            cls_predictor_cfg=dict(type='mmfrozen.PriorLinear'),
            loss_cls=dict(
                type='mmfrozen.FederatedLoss',
                frequencies=counts
                if isinstance(counts, str)
                else list(counts),
                num_fed_classes=7,  # all: both heads draw the same
            ),
        ),
    )


def test_batched_heads_take_the_step_of_stock_heads():
    losses = assert_equal_steps(
        federated(cascade=True), make_batch([boxes(5, 0), boxes(9, 1)])
    )
    names = {n.rpartition('.')[2] for n in losses}
    assert {'loss_cls', 'acc_classes'} <= names and 'acc' not in names


@pytest.mark.parametrize('cascade', [False, True])
def test_both_heads_predict_with_a_sigmoid(cascade):
    scores = []
    for model in build_pair(federated(cascade)):
        heads = model.roi_head.bbox_head
        for head in heads if cascade else [heads]:
            torch.nn.init.zeros_(head.fc_cls.weight)
            torch.nn.init.constant_(head.fc_cls.bias, -1)
            head.fc_cls.bias.data[-1] = 5  # background, which is idle
        model.eval()
        data = model.data_preprocessor(make_batch([boxes(3, 0)]))
        with torch.no_grad():
            found = model.predict(data['inputs'], data['data_samples'])
        scores.append(found[0].pred_instances.scores)
    expected = torch.full((20,), -1.0).sigmoid()
    torch.testing.assert_close(scores[0], expected)
    torch.testing.assert_close(scores[1], expected)


def test_classifier_starts_at_its_prior_after_the_heads_own_init():
    plain, fast = build_pair(federated())
    for model in (plain, fast):
        model.roi_head.bbox_head.init_weights()
        classifier = model.roi_head.bbox_head.fc_cls
        assert classifier.out_features == 8
        torch.testing.assert_close(
            classifier.bias.sigmoid(), torch.full((8,), 0.01)
        )
        assert 0.008 < classifier.weight.std() < 0.012  # MMDetection's


def prior_linear(**options):
    sizes = dict(in_features=2, out_features=2)
    return MODELS.build(dict(type='mmfrozen.PriorLinear', **sizes, **options))


@pytest.mark.parametrize('prior', [0, 1, None, True])
def test_prior_that_is_no_probability_is_refused(prior):
    with pytest.raises(ValueError, match='PriorLinear.prior_prob must be bet'):
        prior_linear(prior_prob=prior)


def test_prior_without_a_bias_is_refused():
    with pytest.raises(ValueError, match='PriorLinear.bias must be True'):
        prior_linear(bias=False)


def categories(counts):
    return [
        dict(id=i, name=f'c{i}', image_count=n)
        for i, n in enumerate(counts, start=1)
    ]


@pytest.mark.parametrize('layout', ['annotations', 'first', 'list'])
def test_frequencies_are_read_from_files_of_lvis(tmp_path, layout):
    found = categories(COUNTS)
    content = {
        'annotations': dict(annotations=[dict(id=1)], categories=found),
        'first': dict(info='"categories"', categories=found, images=[[]]),
        'list': found,
    }[layout]
    path = tmp_path / 'x.json'
    path.write_text(json.dumps(content, indent=1))
    loss = FederatedLoss(str(path), num_fed_classes=3)
    loss.init_weights()
    expected = torch.tensor(COUNTS).sqrt()
    torch.testing.assert_close(loss._weights, expected)


def test_file_of_frequencies_is_for_training_alone(tmp_path):
    """A trained detector is built, loaded and run without the data set."""
    path = tmp_path / 'counts.json'
    settings = federated(counts=str(path))
    model = build_pair(settings)[1]
    assert not any('loss_cls' in name for name in model.state_dict())
    batch = make_batch([boxes(3, 0)])
    data = model.eval().data_preprocessor(copy.deepcopy(batch))
    with torch.no_grad():
        model.predict(data['inputs'], data['data_samples'])
    with pytest.raises(FileNotFoundError, match='must be an existing file'):
        model.roi_head.bbox_head.init_weights()
    path.write_text(json.dumps(categories([3, 1, 4, 1, 5, 9, 2])))
    losses, _ = run(model.train(), batch)
    assert losses['loss_cls'] > 0
    copy.deepcopy(model)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'frequencies must be the number of training .*got None'),
        (dict(frequencies=[0, 0]), 'frequencies must be .*got none. Name'),
        (dict(frequencies=[1, -1]), 'frequencies must .*got -1 for label 1.'),
        (dict(frequencies=['a']), "frequencies must .*got 'a' for label 0."),
        (
            dict(frequencies=[1, 2, 0], num_fed_classes=3),
            'num_fed_classes must be at most the 2 classes that have training '
            'images, got 3. Lower it',
        ),
        (
            dict(frequencies=[1], num_fed_classes=0),
            'num_fed_classes must be a positive integer, got 0',
        ),
        (
            dict(frequencies=[1], freq_weight_power='x'),
            "freq_weight_power must be a number, got 'x'",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        FederatedLoss(**options)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(num_fed_classes=8),
            'num_fed_classes must be at most the 7 classes of its head, got 8',
        ),
        (
            dict(frequencies=[1] * 8),
            'frequencies must be as many as the 7 classes of its head, got 8',
        ),
    ],
)
def test_head_refuses_other_numbers_of_classes(change, message, tmp_path):
    settings = federated(counts=str(tmp_path / 'x.json'))
    settings.roi_head.bbox_head.loss_cls.update(change)
    with pytest.raises(ValueError, match=message):
        build_pair(settings)


@pytest.mark.parametrize(
    ('content', 'got'),
    [
        ('', 'none'),
        ('{}', 'none'),
        ('no JSON', 'none'),
        ('[3]', 'none'),
        ('{"categories": [{"id": 1}]}', 'None for label 0'),
    ],
)
def test_file_without_frequencies_is_refused(tmp_path, content, got):
    path = tmp_path / 'x.json'
    path.write_text(content)
    with pytest.raises(
        ValueError,
        match='FederatedLoss.frequencies must be the number of training images'
        f' of each class, got {got} in .*x.json',
    ):
        FederatedLoss(str(path)).init_weights()


def test_misspelt_option_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'frequencies'"):
        FederatedLoss(frequences=[1])
