"""A hook that checks that the backbone of a control run changes."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ...freezing import changed_tensors, digest
from ..runner_access import KEY, find_model


class TrainableBackboneCheck(Hook):
    """The part of FrozenGuardHook that checks whether a control trains.

    It is not in the registry: FrozenGuardHook adds it to runs whose backbone
    trains. A learning rate of 0 or a forward pass under ``no_grad`` leaves the
    backbone unchanged, although all of it requires grad. Before the first
    checkpoint after an update is written, or else at the end, this hook checks
    that weights of the backbone have changed, if any in the model have.

    Args:
        state: State of the run.
    """

    priority = 'LOWEST'

    def __init__(self, state: str) -> None:
        self.state = state
        self._before: dict[str, str] = {}

    def take_fingerprint(self, model: nn.Module) -> None:
        """Fingerprint the model, once all weights are loaded."""
        self._before = _fingerprint(model)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check before the file is written."""
        self._check(runner)

    def after_train(self, runner: Runner) -> None:
        """Check at the end of the run."""
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        if not self._before:
            return
        after = _fingerprint(find_model(runner))
        moved = set(changed_tensors(self._before, after))
        if not moved:
            return  # no update yet
        inside = [n for n in self._before if n.startswith('backbone.')]
        still = [name for name in inside if name not in moved]
        if still and len(still) == len(inside):
            raise RuntimeError(
                f'{KEY} must move in a {self.state} run, got at iteration '
                f'{runner.iter} all {len(still)} parameters bitwise '
                'unchanged, while the rest of the model moved. Look for '
                'lr_mult=0 in optim_wrapper.paramwise_cfg, and for no_grad in '
                'its forward pass.'
            )
        if still:
            runner.logger.warning(
                f'{len(still)} of {len(inside)} parameters of {KEY} have not '
                f'moved until iteration {runner.iter}, the first is '
                f'{still[0]}.'
            )
        self._before = {}


def _fingerprint(model: nn.Module) -> dict[str, str]:
    return {  # + 0.0, as an update of 0 turns -0.0 into 0.0
        name: digest(parameter.detach() + 0.0)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.dim() > 1
    }
