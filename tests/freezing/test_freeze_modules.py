"""Freezing in plain torch."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmfrozen.freezing import (
    LoadRecorder,
    changed_tensors,
    checkpoint_of,
    count_parameters,
    describe,
    digest,
    find_faults,
    fingerprint,
    freeze,
    freeze_matching,
    freeze_norm,
    freeze_stages,
    frozen_tensors,
    is_kept_in_eval,
    layer_names,
)


class Net(nn.Module):
    """A convolution, a norm and dropout; (N, 3, H, W) -> (N, 4, H, W)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)))


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    'wake',
    [
        lambda net: net.train(),
        lambda net: nn.Sequential(net).train(),
        lambda net: [m.train() for m in net.modules()],
        lambda net: net.apply(lambda m: m.train(True)),
    ],
    ids=['itself', 'its parent', 'each module', 'apply'],
)
def test_frozen_module_keeps_evaluating_whoever_calls_train(wake, images):
    net = freeze(Net())
    before, expected = fingerprint(net), net(images)
    wake(net)
    assert torch.equal(net(images), expected)
    assert changed_tensors(before, fingerprint(net)) == []
    assert find_faults(net) == []


def test_train_and_eval_of_a_frozen_module_return_it():
    net = freeze(Net())
    assert net.train() is net and net.eval() is net


@pytest.mark.parametrize(
    'clone', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_of_a_frozen_module_are_frozen_on_their_own(clone):
    net = freeze(Net())
    twin = clone(net)
    twin.train()
    assert find_faults(twin) == []
    twin.conv.train()
    assert not twin.conv.training
    assert twin.conv.train.args[0] is twin.conv


def test_frozen_state_dict_keys_and_class_are_those_of_the_module():
    net = freeze(Net())
    assert type(net) is Net
    assert net.state_dict().keys() == Net().state_dict().keys()


def test_freeze_norm_fixes_statistics_and_lets_scale_and_shift_train(images):
    net = freeze_norm(Net())
    mean = net.norm.running_mean.clone()
    net.train()
    net(images).sum().backward()
    assert torch.equal(net.norm.running_mean, mean)
    assert net.norm.weight.grad is not None
    assert net.drop.training


def test_norms_that_are_exchanged_after_freeze_norm_stay_fixed(images):
    net = freeze_norm(nn.Sequential(Net()))
    net[0].norm = nn.BatchNorm2d(4)  # as mmengine exchanges SyncBN
    mean = net[0].norm.running_mean.clone()
    net.train()
    net(images)
    assert torch.equal(net[0].norm.running_mean, mean)


def test_every_fault_is_found_and_names_its_first_place():
    net = Net().train()
    groups = [dict(params=[net.norm.bias])]
    assert find_faults(net, groups) == [
        '4 parameters require grad, the first is conv.weight',
        '1 parameters are in the optimizer, the first is norm.bias',
        '1 layers with running statistics are in training mode, '
        'the first is norm',
        '1 dropout or stochastic depth layers are on, the first is drop',
    ]


def test_counts_add_up():
    net = Net()
    freeze(net.conv)
    counts = count_parameters(net)
    assert (counts.total, counts.trainable, counts.frozen) == (24, 8, 16)


def test_fingerprint_sees_one_changed_bit_in_parameters_and_buffers():
    net = Net()
    before = fingerprint(net)
    with torch.no_grad():
        net.norm.running_var[2] = torch.nextafter(
            net.norm.running_var[2], torch.tensor(2.0)
        )
    net.norm.num_batches_tracked += 1
    assert changed_tensors(before, fingerprint(net)) == [
        'norm.num_batches_tracked',
        'norm.running_var',
    ]


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.int64, torch.bool]
)
def test_digest_takes_any_dtype_shape_and_layout(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    assert digest(tensor.t()) == digest(tensor.t().contiguous())
    assert digest(tensor[0, 0]) == digest(tensor[:1, :1])
    assert digest(tensor) != digest(1 - tensor.float())


def test_recorder_names_what_no_state_dict_has_filled():
    net = nn.Sequential(Net(), Net())
    state = net.state_dict()
    del state['0.conv.bias'], state['0.norm.num_batches_tracked']
    state['1.norm.weight'] = torch.ones(5)  # loaders skip another shape
    recorder = LoadRecorder(net)
    with pytest.raises(RuntimeError):
        net.load_state_dict(state)
    assert recorder.stop() == ['0.conv.bias', '1.norm.weight']
    net.load_state_dict(net.state_dict())
    assert len(recorder.stop()) == 2, 'it goes on recording after stop()'


class Attention(nn.Module):
    """Hands its rate to a function, as torch's and timm's do."""

    def __init__(self, rate):
        super().__init__()
        self.attn_drop = nn.Dropout(rate)


def test_attention_that_drops_without_a_layer_is_found():
    for layer, faults in [
        (nn.MultiheadAttention(4, 2, dropout=0.1), 1),
        (nn.MultiheadAttention(4, 2, dropout=0.0), 0),
        (Attention(0.1), 1),
        (Attention(0.0), 0),
    ]:
        freeze(layer)
        assert find_faults(layer) == []
        layer.training = True
        found = [f for f in find_faults(layer) if 'dropout' in f]
        assert len(found) == faults, layer


def test_index_tables_and_buffers_of_convolutions_are_no_statistics():
    net = freeze(Net())
    net.register_buffer('table', torch.arange(3))
    net.conv.register_buffer('gamma', torch.ones(3))
    net.training = net.conv.training = True
    assert find_faults(net) == []


class Tables(nn.Module):
    """A weight, an index table, and a norm of the weight worked out while
    loading, as in DetectoRS."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer('index', torch.arange(3))
        self.register_buffer('size', torch.ones(()))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        super()._load_from_state_dict(state_dict, prefix, *args)
        if prefix + 'weight' in state_dict:
            self.size.fill_(self.weight.detach().norm())


def test_recorder_needs_no_source_for_what_is_no_weight():
    net = nn.Sequential(Tables(), Tables())
    recorder = LoadRecorder(net)
    net.load_state_dict({'1.weight': torch.rand(3)}, strict=False)
    assert recorder.stop() == ['0.size', '0.weight']


class OutputNorms(nn.Module):
    """A norm on each output, as in mmpretrain's ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.norm0 = nn.LayerNorm(3)
        self.norm1 = nn.BatchNorm2d(3)
        self.blocks = nn.ModuleDict(dict(norm1=nn.LayerNorm(3)))


def test_output_norms_need_no_source_while_they_are_the_identity():
    net = OutputNorms()
    recorder = LoadRecorder(net)
    net.stem.load_state_dict(nn.Linear(3, 3).state_dict())
    missing = recorder.stop()
    assert not any(name.startswith('norm0') for name in missing)
    inside = ['blocks.norm1.bias', 'blocks.norm1.weight']
    assert missing[:2] == inside, 'only norms on outputs are excused'
    assert 'norm1.running_mean' in missing, 'statistics need a source'
    with torch.no_grad():
        net.norm0.bias[0] = 0.1
    assert 'norm0.bias' in recorder.stop()


def test_checkpoint_is_named_by_init_cfg_or_by_pretrained():
    net = Net()
    assert checkpoint_of(net) is None
    net.pretrained = 'a.pth'
    net.init_cfg = [dict(type='Kaiming')]
    assert checkpoint_of(net) == 'a.pth'
    net.init_cfg = dict(type='Pretrained', checkpoint='b.pth')
    assert checkpoint_of(net) == 'b.pth'


class Detector(nn.Module):
    """Parts as a detector has them."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor = nn.Identity()
        self.backbone = Net()
        self.backbone.stage_numbers = lambda: {
            n: int(not n.startswith('conv')) for n in layer_names(Net())
        }
        self.neck = Net()
        self.roi_head = nn.Module()
        self.roi_head.bbox_head = Net()
        self.roi_head.mask_head = Net()
        self.level_embed = nn.Parameter(torch.zeros(5))


def test_description_tells_the_state_of_every_part_and_adds_up():
    model = Detector()
    freeze_stages(model.backbone, 0)
    freeze(model.roi_head.bbox_head)
    freeze_matching(model.roi_head.mask_head, ['norm.*'])
    model.train()
    rows = describe(model)
    assert [(r.name, r.status, r.moving_norms) for r in rows] == [
        ('data_preprocessor', 'empty', 0),
        ('backbone.stem', 'frozen', 0),
        ('backbone.stage 1', 'trained', 1),
        ('neck', 'trained', 1),
        ('roi_head.bbox_head', 'frozen', 0),
        ('roi_head.mask_head', 'partial', 0),
        ('level_embed', 'trained', 0),
    ]
    counts = count_parameters(model)
    assert sum(r.parameters.total for r in rows) == counts.total
    assert sum(r.parameters.trainable for r in rows) == counts.trainable


def test_statistics_that_move_make_a_frozen_part_partial():
    model = Detector().requires_grad_(False).train()
    assert {r.status for r in describe(model)} == {
        'empty',
        'partial',
        'frozen',
    }


def test_frozen_layers_do_not_drag_along_what_trains_beside_them(images):
    net = nn.Sequential(Net(), nn.Conv2d(4, 3, 1), Net())
    freeze_matching(net, ['0', '2.norm'])
    net.train()
    before = fingerprint(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    net(images).square().sum().backward()
    optimizer.step()
    moved = changed_tensors(before, fingerprint(net))
    assert {n.rpartition('.')[0] for n in moved} == {'1', '2.conv'}
    assert frozen_tensors(net) == set(before) - set(moved)
    assert net[2].drop.training and not net[0].drop.training
    assert is_kept_in_eval(net[0]) and is_kept_in_eval(net[2].norm)
    assert not is_kept_in_eval(net) and not is_kept_in_eval(net[2])


def test_pattern_of_one_parameter_leaves_its_layer_in_training():
    net = freeze_matching(Net(), ['norm.weight'])
    net.train()
    assert net.norm.training and not net.norm.weight.requires_grad
    assert net.norm.bias.requires_grad


@pytest.mark.parametrize(
    'init_cfg, expected',
    [
        (dict(type='Pretrained', checkpoint='a.pth'), 'a.pth'),
        (dict(checkpoint='a.pth'), 'a.pth'),  # as PVT's configs have it
        ([dict(type='Kaiming', layer='Conv2d')], None),
        (None, None),
    ],
)
def test_checkpoint_is_found_in_a_modules_config(init_cfg, expected):
    net = Net()
    net.init_cfg = init_cfg
    assert checkpoint_of(net) == expected
