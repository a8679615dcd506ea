"""Residual adapters: small trainable branches beside frozen blocks."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn

from ..fit import output_channels
from ..freezing.stages import stage_numbers

KEY = 'model.backbone.adapters'
#: Class names of residual blocks whose output is (N, C, H, W), in MMDetection
#: and timm; subclasses count too.
BLOCKS = {
    'BasicBlock',
    'Bottleneck',
    'InvertedResidual',
    'DepthwiseSeparableConv',
    'EdgeResidual',
}


class Adapter(BaseModule):
    """A residual bottleneck h' = h + A(h), where A is two 1 x 1 convolutions
    around a ReLU.

    It follows Rebuffi et al. 2017 (arXiv 1705.08045), with a bottleneck. The
    last convolution is initialised to zero, so that the adapter starts as the
    identity. There is no norm: training and evaluation mode compute the same.

    When a state dict without the adapter's tensors is loaded, the adapter
    keeps its own. A classifier's checkpoint can therefore be loaded into a
    backbone with adapters without missing keys.

    Args:
        channels: Channels of the block's output.
        width: Channels of the bottleneck.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, width, 1)
        self.act = nn.ReLU(inplace=True)
        self.up = nn.Conv2d(width, channels, 1)
        self._start_as_identity()

    def _start_as_identity(self) -> None:
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def init_weights(self) -> None:
        """Restore the zero initialisation, which the backbone's own
        ``init_cfg`` overwrites for every Conv2d."""
        super().init_weights()
        self._start_as_identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return h + A(h) for h, (N, channels, H, W); same shape."""
        return x + self.up(self.act(self.down(x)))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        for name, tensor in self.state_dict().items():
            state_dict.setdefault(prefix + name, tensor)
        super()._load_from_state_dict(state_dict, prefix, *args)


def add_adapters(
    backbone: nn.Module, *, reduction: int = 16, first_stage: int = 1
) -> nn.Module:
    """Add an adapter to the output of every residual block, in place.

    Adapters are stored in ``backbone.adapters``; the other state-dict keys do
    not change. The adapter of ``layer1.0`` is ``adapters.layer1-0``.

    Args:
        backbone: A ResNet or EfficientNet of MMDetection or timm, or a network
            built of the same blocks.
        reduction: Ratio of the block's channels to the adapter's bottleneck
            channels.
        first_stage: The first stage that gets adapters (1 is the first after
            the stem). Earlier stages store no activations for the backward
            pass.

    Returns:
        The same module.

    Raises:
        ValueError: If an option is invalid, or no block can get an adapter.
    """
    for name, value in (
        ('reduction', reduction),
        ('first_stage', first_stage),
    ):
        if type(value) is not int or value < 1:
            raise ValueError(
                f'{KEY}.{name} must be a positive integer, got {value!r}. '
                'Correct it, or remove it.'
            )
    stages = stage_numbers(backbone)
    blocks = {
        name: block
        for name, block in backbone.named_modules()
        if is_block(block)
        and output_channels(block)
        and _stage(name, stages) >= first_stage
    }
    if not blocks:
        highest = max(stages.values(), default=0)
        raise ValueError(
            f'{KEY} must be added to residual blocks of a ResNet or '
            f'EfficientNet in stages {first_stage} to {highest}, got '
            f'{type(backbone).__name__}, which has none there. Remove '
            'adapters, or correct first_stage.'
        )
    backbone.adapters = ModuleDict()
    for name, block in blocks.items():
        channels = output_channels(block) or 0
        adapter = Adapter(channels, max(channels // reduction, 1))
        backbone.adapters[name.replace('.', '-')] = adapter
        # not registered as a child, so that the block's state-dict keys do not
        # change
        block.__dict__['adapter'] = adapter
        block.register_forward_hook(_adapt)
    return backbone


def _adapt(block: nn.Module, _: Any, output: Tensor) -> Tensor:
    # read from the module, so that a copied block uses its copied adapter
    return block.adapter(output)  # type: ignore[no-any-return]


def is_block(module: nn.Module) -> bool:
    """Return whether a module is a residual block of a known family."""
    return any(cls.__name__ in BLOCKS for cls in type(module).__mro__)


def _stage(block: str, stages: dict[str, int]) -> int:
    inside = [n for name, n in stages.items() if name.startswith(f'{block}.')]
    return max(inside, default=0)
