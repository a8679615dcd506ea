"""What of a forward pass is worked out once, and that it stays the same."""

import pytest
import torch
from torch import nn

from mmfrozen.engine.fold import fold
from mmfrozen.engine.graph import record
from mmfrozen.engine.lower import (
    fuse_on_cpu,
    use_channels_last,
    write_in_place,
)
from mmfrozen.engine.measure import difference

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.manual_seed(0))


class Scaled(nn.Module):
    """A frozen norm as torchvision writes it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8) + 0.5)
        self.shift = nn.Parameter(torch.randn(8))

    def forward(self, x):
        return x * self.scale[:, None, None] + self.shift[None, :, None, None]


class Block(nn.Module):
    """A stem and a residual block around a norm and an activation."""

    def __init__(self, norm, act):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1, self.act = norm(), act
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.norm2 = norm()

    def forward(self, x):
        x = self.act(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(x))
        out += x
        return [x, self.act(out)]


def batch_norm():
    norm = nn.BatchNorm2d(8)
    for tensor in (norm.weight, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5)
    for tensor in (norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    return norm


NETS = {
    'batch norm': lambda: Block(batch_norm, nn.ReLU(inplace=True)),
    'no affine': lambda: Block(
        lambda: nn.BatchNorm2d(8, affine=False), nn.SiLU(inplace=True)
    ),
    'relu6': lambda: Block(batch_norm, nn.ReLU6(inplace=True)),
    'hardswish': lambda: Block(batch_norm, nn.Hardswish()),
    'sigmoid': lambda: Block(batch_norm, nn.Sigmoid()),
    'frozen norm': lambda: Block(Scaled, nn.ReLU()),
}


def operators(module):
    return [
        str(n.target).removeprefix('aten.')
        for n in module.graph.nodes
        if n.op == 'call_function'
    ]


def recorded(net):
    module = record(net, IMAGES)
    fold(module)
    return module


def build(name):
    torch.manual_seed(0)
    return NETS[name]().eval().requires_grad_(False)


@pytest.mark.parametrize('name', NETS)
@pytest.mark.parametrize('change', [write_in_place, fuse_on_cpu])
@pytest.mark.parametrize('channels_last', [False, True])
def test_norms_become_weights_and_features_stay(name, change, channels_last):
    net, images = build(name), IMAGES.flip(-1)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    wanted = net(images)
    module = recorded(net)
    assert not any('norm' in o or 'mul' in o for o in operators(module))
    if channels_last:
        use_channels_last(module)
        images = images.contiguous(memory_format=torch.channels_last)
    change(module)
    for _ in range(2):  # no result is overwritten, nor the images
        assert difference(module(images), wanted) < 1e-5
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_one_call_of_onednn_is_a_convolution_with_all_after_it():
    module = recorded(build('batch norm'))
    fuse_on_cpu(module)
    assert operators(module) == [
        'mkldnn._convolution_pointwise.default',
        'mkldnn._convolution_pointwise.binary',
    ]


def test_a_result_that_others_read_is_not_overwritten():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x):
            x = self.conv(x)
            return [x.relu(), x]

    net = Twice().eval().requires_grad_(False)
    module = recorded(net)
    for change in (write_in_place, fuse_on_cpu):
        change(module)
        assert difference(module(IMAGES), net(IMAGES)) < 1e-6
    assert 'relu.default' in operators(module)


def test_a_norm_behind_a_shared_result_or_in_training_mode_stays():
    class Shared(Block):
        def forward(self, x):
            y = self.conv1(x)
            return [self.norm1(y), y]

    shared = Shared(batch_norm, nn.ReLU()).eval()
    training = Block(batch_norm, nn.ReLU()).eval()
    training.norm1.train()
    for net in (shared, training):
        module = recorded(net.requires_grad_(False))
        assert sum('batch_norm' in o for o in operators(module)) == 1
        assert difference(module(IMAGES), net(IMAGES)) < 1e-6


def test_weights_that_are_used_as_they_are_share_memory():
    net = nn.Sequential(nn.Conv2d(3, 8, 1)).requires_grad_(False)
    module = recorded(lambda x: [net(x)])
    places = {v.data_ptr() for v in module.state_dict().values()}
    assert places == {v.data_ptr() for v in net.state_dict().values()}


def test_standardised_weights_and_masks_are_worked_out_once():
    weight = torch.randn(8, 3, 1, 1)

    def forward(x):
        w = (weight - weight.mean()) / weight.std()
        mask = torch.zeros(x.shape[-2:])
        mask[:4] = 1
        return [nn.functional.conv2d(x, w) * mask]

    module = recorded(forward)
    assert operators(module) == ['convolution.default', 'mul.Tensor']
    assert difference(module(IMAGES), forward(IMAGES)) < 1e-6


def test_casts_of_weights_are_done_once_and_norms_folded_before_them():
    net, images = build('batch norm'), IMAGES.flip(-1)
    exact = net(images)

    def forward(x):
        with torch.autocast('cpu', torch.bfloat16):
            return net(x)

    module = recorded(forward)
    assert sum('_to_copy' in o for o in operators(module)) == 1  # images
    error = difference([x.float() for x in module(images)], exact)
    assert 0 < error < 1e-2
    norm = net.norm1
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = net.conv1.weight * scale[:, None, None, None]
    kept = [t for t in module.buffers() if t.shape == weight.shape]
    assert len(kept) == 1
    # half a unit in the last place: rounded once
    assert ((kept[0] - weight).abs() <= weight.abs() * 2**-8 * 1.01).all()


def test_random_numbers_are_refused():
    with pytest.raises(ValueError, match='must be deterministic'):
        record(lambda x: [nn.functional.dropout(x)], IMAGES)


def test_decisions_on_values_are_refused():
    with pytest.raises(RuntimeError):
        record(lambda x: [x if x.sum() > 0 else -x], IMAGES)


def test_attention_is_recorded_though_it_could_drop():
    def forward(x):
        return [nn.functional.scaled_dot_product_attention(x, x, x)]

    assert difference(recorded(forward)(IMAGES), forward(IMAGES)) < 1e-6
