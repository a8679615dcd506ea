"""A hook that averages trained weights over steps (EMA) without copies of the
frozen ones."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from ..registry import HOOKS
from .runner_access import find_model


@HOOKS.register_module()
class FrozenAwareEMAHook(EMAHook):
    """MMEngine's ``EMAHook``, with frozen weights shared by both models.

    ``EMAHook`` copies the whole detector and averages frozen weights, too,
    which costs their memory and time in every step. Here the averaged model
    refers to the model's own frozen parameters. Averages of all others,
    checkpoints and options are those of ``EMAHook``; runs of one can be
    resumed with the other.

    Example config::

        custom_hooks = [
            dict(type='NumClassCheckHook'),
            dict(type='mmfrozen.FrozenAwareEMAHook',
                 ema_type='ExpMomentumEMA', momentum=2e-4)]
    """

    def before_run(self, runner: Runner) -> None:
        """Create the averaged model, and share the frozen parameters."""
        super().before_run(runner)
        own = dict(find_model(runner).named_parameters())
        self._shared = {k: p for k, p in own.items() if not p.requires_grad}
        averaged = dict(self.ema_model.module.named_parameters())
        for name, param in self._shared.items():
            averaged[name].data = param.data
            del self.ema_model.avg_parameters[name]

    def after_train_iter(
        self, runner: Runner, *args: Any, **kwargs: Any
    ) -> None:
        """Update the averages.

        Raises:
            ValueError: If a parameter that was frozen before the run trains.
        """
        trained = [k for k, p in self._shared.items() if p.requires_grad]
        if trained:
            raise ValueError(
                'Parameters that were frozen before the run must stay so for '
                f'FrozenAwareEMAHook, got {trained[0]} that trains at '
                f'iteration {runner.iter}. Use EMAHook.'
            )
        super().after_train_iter(runner, *args, **kwargs)
