"""FLOPs by module and by what they are for, against counts by hand."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from mmfrozen.cost import FlopCounter, Flops
from mmfrozen.cost.flops import sum_flops


class TwoLayers(nn.Module):
    """conv 3 -> 4 on 8 x 8, then linear 4 -> 5 on the mean."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


CONV = 2 * 2 * 8 * 8 * 4 * 3 * 9  # batch of 2
LINEAR = 2 * 2 * 4 * 5


def count(model, *inputs, forward=None):
    with FlopCounter(model) as counter:
        (forward or model)(*inputs).sum().backward()
    return counter


def test_each_layer_has_its_three_counts():
    counter = count(TwoLayers(), torch.randn(2, 3, 8, 8))
    assert counter.flops() == {
        'conv': Flops(CONV, 0, CONV),  # images need no gradient
        'fc': Flops(LINEAR, LINEAR, LINEAR),
    }
    assert counter.total() == Flops(CONV + LINEAR, LINEAR, CONV + LINEAR)
    assert counter.so_far == counter.total().total


def test_frozen_layer_keeps_its_forward_pass_alone():
    model = TwoLayers()
    model.conv.requires_grad_(False)
    counter = count(model, torch.randn(2, 3, 8, 8))
    assert counter.flops() == {
        'conv': Flops(CONV, 0, 0),
        'fc': Flops(LINEAR, 0, LINEAR),
    }


def test_frozen_layer_behind_a_trained_one_hands_its_gradient_on():
    model = TwoLayers()
    model.fc.requires_grad_(False)
    flops = count(model, torch.randn(2, 3, 8, 8)).flops()
    assert flops['fc'] == Flops(LINEAR, LINEAR, 0)


@pytest.mark.parametrize('layer', (nn.Conv2d, nn.ConvTranspose2d))
def test_grouped_convolution_has_the_same_count_in_both_gradients(layer):
    model = layer(8, 16, 3, padding=1, groups=8)
    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    flops = 2 * 2 * 5 * 5 * 8 * 2 * 9
    assert count(model, x).total() == Flops(flops, flops, flops)


def test_torch_counts_a_depthwise_weight_gradient_once_a_group_too_often():
    """The upstream gap that our own formula closes."""
    model = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    x = torch.randn(2, 8, 5, 5)
    with FlopCounterMode(display=False) as theirs:
        model(x).sum().backward()
    ours = count(model, x).total()
    assert theirs.get_total_flops() == ours.forward + 8 * ours.backward_weight


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
    st.booleans(),
)
def test_counts_agree_with_torch_where_it_is_right(
    n, c_in, c_out, kernel, stride, trains
):
    model = nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, padding=1),
        nn.Flatten(2),
        nn.Linear(((9 - kernel) // stride + 1) ** 2, 3),
    )
    model[0].requires_grad_(trains)
    x = torch.randn(n, c_in, 7, 7)
    with FlopCounterMode(display=False) as theirs:
        model(x).sum().backward()
    assert count(model, x).total().total == theirs.get_total_flops()


def test_attention_gives_weight_gradients_to_its_projections_alone():
    batch, tokens, width = 2, 6, 8
    model = nn.MultiheadAttention(width, 2, batch_first=True)
    x = torch.randn(batch, tokens, width, requires_grad=True)
    total = count(model, x, forward=lambda x: model(x, x, x)[0]).total()
    projections = 2 * batch * tokens * width * 4 * width
    products = 2 * 2 * batch * tokens * tokens * width
    assert total == Flops(
        projections + products,
        projections + 2 * products,
        projections,
    )


def test_fused_attention_counts_two_products_forward_and_five_backward():
    q = torch.randn(2, 3, 10, 4, requires_grad=True)
    total = count(
        None,
        q,
        forward=lambda q: functional.scaled_dot_product_attention(q, q, q),
    ).total()
    product = 2 * 2 * 3 * 10 * 10 * 4
    assert total == Flops(2 * product, 5 * product, 0)


@pytest.mark.parametrize('dtype', (torch.float32, torch.bfloat16))
def test_autocast_copies_are_still_parameters(dtype):
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    with (
        FlopCounter(model) as counter,
        torch.autocast('cpu', dtype, enabled=dtype != torch.float32),
    ):
        model(torch.randn(5, 4)).float().sum().backward()
    first, second = 2 * 5 * 4 * 6, 2 * 5 * 6 * 3
    assert counter.flops() == {
        '0': Flops(first, 0, first),
        '1': Flops(second, second, second),
    }


def test_recomputed_layers_count_their_forward_pass_again():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    x = torch.randn(3, 4, requires_grad=True)
    once = 2 * 3 * 4 * 4
    flops = count(
        model, x, forward=lambda x: checkpoint(model, x, use_reentrant=True)
    ).flops()
    assert flops == {'0': Flops(2 * once, once, once)}


def test_shared_layer_and_distributed_wrapper_count_under_one_name(
    one_process,
):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.append(model[0])
    wrapped = nn.parallel.DistributedDataParallel(model)
    flops = count(wrapped, torch.randn(1, 4)).flops()
    assert flops == {'0': Flops(2 * 32, 32, 2 * 32)}


def test_components_add_up_to_the_total():
    counter = count(TwoLayers(), torch.randn(2, 3, 8, 8))
    parts = counter.flops(lambda name: 'all' if name else 'none')
    assert parts == {'all': counter.total()}
    assert sum_flops(counter.flops().values()) == counter.total()


def test_operators_without_a_formula_are_listed_and_moves_are_not():
    def forward(x):
        x = torch.cat((x.view(-1), x.flatten().clone()))
        return functional.silu(x) + torch.cdist(x[None, :2], x[None, :2]).sum()

    with FlopCounter() as counter:
        forward(torch.randn(2, 3))
    assert counter.uncounted == {
        'silu': 1,
        '_cdist_forward': 1,
        'sum': 1,
        'add': 1,
    }
    assert counter.uncounted_elements['silu'] == 12
    assert counter.total() == Flops()


def test_formula_registered_with_torch_is_honoured():
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    packet = torch.ops.aten.hypot
    register_flop_formula(packet)(lambda a, b, out_shape=None: 7 * a[0])
    try:
        with FlopCounter() as counter:
            torch.hypot(torch.ones(3), torch.ones(3))
    finally:
        del flop_registry[packet]
    assert counter.total() == Flops(21) and not counter.uncounted


def test_forward_is_twice_what_fvcore_counts_of_the_same_operators():
    import torchvision

    model = torchvision.models.resnet18().eval()
    x = torch.randn(1, 3, 64, 64)
    with FlopCounter(model) as counter, torch.no_grad():
        model(x)
    theirs = FlopCountAnalysis(model, x)
    theirs.unsupported_ops_warnings(False)
    by_operator = theirs.by_operator()
    macs = by_operator['conv'] + by_operator['linear']
    assert counter.total() == Flops(2 * macs)
    conv = theirs.by_module_and_operator()['layer2.0.conv1']['conv']
    assert counter.flops()['layer2.0.conv1'].forward == 2 * conv


def test_counting_changes_no_result_and_leaves_nothing_behind():
    model = TwoLayers()
    x = torch.randn(2, 3, 8, 8)
    model(x).sum().backward()
    want = model.conv.weight.grad.clone()
    model.zero_grad()
    count(model, x)
    assert torch.equal(model.conv.weight.grad, want)
    with pytest.raises(ZeroDivisionError), FlopCounter(model):
        raise ZeroDivisionError
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks


@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode])
def test_composite_operators_count_without_gradients(context):
    layers = [
        (nn.Sequential(TwoLayers(), nn.BatchNorm1d(5)), (2, 3, 8, 8)),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (2, 5, 16)),
    ]
    for layer, shape in layers:
        x = torch.randn(shape)
        with FlopCounter(layer) as expected:
            layer(x)
        with context(), FlopCounter(layer) as around:
            layer(x)
        with FlopCounter(layer) as within, context():
            layer(x)
        wanted = expected.total().forward
        assert wanted > 0
        assert around.total().forward == within.total().forward == wanted
