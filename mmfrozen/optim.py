"""Build the optimizer over trainable parameters only."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from .registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMDetection's constructor without the frozen parameters.

    What MMDetection lacks: unless ``paramwise_cfg`` is set it gives every
    parameter to the optimizer, frozen ones too (mmengine #1245).

        optim_wrapper = dict(
            constructor='TrainableOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=0.16))
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper, then drop parameters that do not require grad.

        Raises:
            ValueError: If no parameter requires grad.
        """
        wrapper = super().__call__(model)
        groups = wrapper.optimizer.param_groups
        for group in groups:
            group['params'] = [p for p in group['params'] if p.requires_grad]
        groups[:] = [group for group in groups if group['params']]
        if not groups:
            raise ValueError(
                'model must have parameters that require grad, got none: all '
                'is frozen. Leave the neck or a head trainable.'
            )
        return wrapper
