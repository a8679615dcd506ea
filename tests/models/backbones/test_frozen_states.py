"""The six meanings of "frozen", and state-dict keys, for every backbone."""

import re
from importlib import import_module

import pytest
import timm
import torch
from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmfrozen.freezing import (
    LoadRecorder,
    changed_tensors,
    find_faults,
    fingerprint,
    num_stages,
    stage_numbers,
)

from .table import HOST_CLASSES, ROWS

STEPS = 3


@pytest.fixture(params=ROWS, ids=str, scope='module')
def row(request):
    torch.manual_seed(0)
    return ROWS[request.param]


@pytest.fixture(params=[n for n in ROWS if 'B7' not in n], ids=str)
def part(request):
    """A row to be frozen in part: B7 differs from B0 in its size alone."""
    torch.manual_seed(0)
    return ROWS[request.param]


@pytest.fixture(scope='module')
def stock(row):
    """The backbone as MMDetection builds it; nothing here changes it."""
    return row.build('stock')


@pytest.fixture(scope='module')
def detector(row):
    """A frozen backbone and a head that trains.

    All tests of a row share it: what is frozen cannot be changed by them.
    """
    model = nn.Module()
    model.backbone = row.build()
    model.untouched = not any(
        p.requires_grad for p in model.backbone.parameters()
    )
    with torch.no_grad():
        features = model.backbone(row.images())[-1]
    model.head = nn.Conv2d(features.shape[1], 2, 1)
    return model.train()


def test_table_covers_every_backbone_that_mmdetection_registers():
    exported = set(import_module('mmdet.models.backbones').__all__)
    covered = {row.config['type'] for row in ROWS.values()}
    assert set(HOST_CLASSES) == exported
    assert len(exported) >= 20
    assert exported <= covered, exported - covered


def test_table_covers_ten_families_of_timm():
    assert (
        sum(row.config['type'] == 'TimmBackbone' for row in ROWS.values())
        >= 10
    )


def test_1_no_parameter_requires_grad_from_construction_on(detector):
    assert detector.untouched
    detector.train()
    assert not any(p.requires_grad for p in detector.backbone.parameters())


def test_2_no_running_statistic_moves(detector, row):
    before = fingerprint(detector.backbone)
    detector.train()
    detector.backbone(row.images())
    assert changed_tensors(before, fingerprint(detector.backbone)) == []


def test_3_training_mode_computes_what_evaluation_does(detector, row):
    trained = detector.train().backbone(row.images())
    evaluated = detector.eval().backbone(row.images())
    for a, b in zip(trained, evaluated, strict=True):
        assert torch.equal(a, b) and a.isfinite().all()
    detector.train()
    assert not any(m.training for m in detector.backbone.modules())


def test_4_backbone_keeps_nothing_for_a_backward_pass(detector, row):
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        features = detector.backbone(row.images())
        assert kept == [] and not any(f.requires_grad for f in features)
        detector.head(features[-1])
    assert kept, 'the head does keep something'


def test_4_optimizer_holds_what_trains_and_nothing_else(detector):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='TrainableOptimWrapperConstructor',
            optim_wrapper_cfg=dict(
                type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)
            ),
        )
    )
    optimizer = constructor(detector).optimizer
    held = [p for group in optimizer.param_groups for p in group['params']]
    assert {id(p) for p in held} == {id(p) for p in detector.head.parameters()}


@pytest.fixture(scope='module')
def classifier(row, stock):
    """Tensors of a classifier under MMDetection's names."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(tensor.shape, generator=generator) + 0.5
        if tensor.is_floating_point()
        else tensor
        for name, tensor in stock.state_dict().items()
        if not re.fullmatch(row.added, name)
    }


def aliases(name):
    """What TimmBackbone calls a tensor of timm's classifier."""
    return [
        f'model.{x}'
        for x in (name, name.replace('.', '_', 1), f'model.{name}')
    ]


def save(row, tensors, path):
    """Write a file as the loader of the row's class expects it."""
    if row.config['type'] == 'SwinTransformer':
        tensors = {f'backbone.{name}': x for name, x in tensors.items()}
    if row.config['type'] == 'TimmBackbone':
        known = timm.create_model(
            row.config['model_name'], **row.config['model_args']
        ).state_dict()
        lost = {x for name in known for x in aliases(name)} - set(tensors)
        feature = row.build('stock').state_dict()
        for name in list(known):
            alias = next((x for x in aliases(name) if x in feature), None)
            if alias in lost:
                del known[name]
            elif alias:
                known[name] = tensors[alias]
        tensors = known
    torch.save(tensors, path)


def load(row, path):
    """Fill a frozen backbone as a run does, watched by a recorder."""
    backbone = row.build(
        inner=dict(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    )
    recorder = LoadRecorder(backbone)
    backbone.init_weights()
    return backbone, recorder.stop()


def test_5_whole_load_is_seen_and_the_one_key_that_a_file_lacks_is_named(
    row, classifier, stock, tmp_path
):
    if row.no_loading:
        pytest.xfail(row.no_loading)
    save(row, classifier, tmp_path / 'whole.pth')
    backbone, missing = load(row, tmp_path / 'whole.pth')
    assert missing == []
    loaded = backbone.state_dict()
    for name, tensor in classifier.items():
        assert torch.equal(loaded[name], tensor), name

    names = [n for n, _ in stock.named_parameters() if n in classifier]
    lost = names[len(names) // 2]
    part = {n: x for n, x in classifier.items() if n != lost}
    save(row, part, tmp_path / 'part.pth')
    if row.config['type'] != 'TimmBackbone':
        assert load(row, tmp_path / 'part.pth')[1] == [lost]
        return
    with pytest.raises(ValueError, match='must hold all weights') as caught:
        load(row, tmp_path / 'part.pth')  # timm's loader is strict
    whole, part = (
        torch.load(tmp_path / f'{name}.pth') for name in ('whole', 'part')
    )
    [gone] = whole.keys() - part.keys()  # timm's name of it
    assert f'"{gone}"' in str(caught.value)


def test_6_weights_are_bitwise_the_same_after_steps(detector, row):
    before = fingerprint(detector.backbone)
    head = fingerprint(detector.head)
    optimizer = torch.optim.AdamW(detector.parameters(), weight_decay=0.1)
    for _ in range(STEPS):
        detector.train()
        features = detector.backbone(row.images())[-1]
        detector.head(features).square().sum().backward()
        optimizer.step()
    assert changed_tensors(before, fingerprint(detector.backbone)) == []
    assert len(changed_tensors(head, fingerprint(detector.head))) == 2


def test_frozen_backbone_shows_no_fault_in_training_mode(detector):
    assert find_faults(detector.train().backbone) == []


@pytest.mark.parametrize('frozen', [True, False])
def test_checkpoints_move_strictly_from_mmdetection_and_back(
    row, stock, frozen
):
    ours = row.build(frozen=frozen)
    assert type(ours) is type(stock)
    theirs = stock.state_dict()
    ours.load_state_dict(theirs, strict=True)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    stock.load_state_dict(ours.state_dict(), strict=True)


def outputs(features):
    return sum(f.float().square().mean() for f in features)


def test_stages_up_to_one_are_frozen_and_the_others_train(part):
    backbone = part.build(frozen_stages=part.stages // 2, norm_eval=False)
    numbers = stage_numbers(backbone)
    assert num_stages(backbone) == part.stages
    for name, parameter in backbone.named_parameters():
        late = numbers[name] > part.stages // 2
        assert parameter.requires_grad == late, name
    assert {numbers[n] for n, _ in backbone.named_parameters()} >= set(
        range(1, part.stages + 1)
    )


def test_stages_are_in_order_of_computation(part):
    """No gradient reaches what a frozen stage computes, and each stage
    after it gets one."""
    last = part.stages // 2
    backbone = part.build(frozen_stages=last, norm_eval=False)
    backbone.train()
    numbers = stage_numbers(backbone)
    wrong = []

    def check(name):
        def hook(module, inputs, output):
            if torch.is_tensor(output) and output.requires_grad:
                wrong.append(name)

        return hook

    for name, layer in backbone.named_modules():
        if numbers.get(name, 99) <= last:
            if any(True for _ in layer.parameters()):
                layer.register_forward_hook(check(name))
            assert not layer.training, name
    before = fingerprint(backbone)
    outputs(backbone(part.images())).backward()
    assert wrong == []
    reached = {
        numbers[n]
        for n, p in backbone.named_parameters()
        if p.grad is not None
    }
    assert reached == set(range(last + 1, part.stages + 1))
    moved = changed_tensors(before, fingerprint(backbone))
    assert all(number_of(n, numbers) > last for n in moved), moved


def number_of(buffer, numbers):
    """The stage of the layer that holds a buffer."""
    return numbers.get(buffer.rpartition('.')[0], 99)


def test_all_stages_are_the_whole_backbone(part):
    backbone = part.build(frozen_stages=part.stages)
    backbone.train()
    assert find_faults(backbone) == []
    assert not any(m.training for m in backbone.modules())


def test_control_trains_all_but_running_statistics(part):
    control = part.build(frozen=False, norm_eval=True)
    control.train()
    trains = [p.requires_grad for p in control.parameters()]
    assert all(trains)
    before = fingerprint(control)
    outputs(control(part.images())).backward()
    assert changed_tensors(before, fingerprint(control)) == []
    moving = part.build(frozen=False, norm_eval=False)
    moving.train()
    before = fingerprint(moving)
    moving(part.images())
    has_statistics = any(
        'running_mean' in n for n, _ in moving.named_buffers()
    )
    assert bool(changed_tensors(before, fingerprint(moving))) == has_statistics
