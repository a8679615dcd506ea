"""A hook that optimises the forward pass of a frozen backbone in training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..engine import DTYPES, FrozenEngine
from ..errors import check_count, is_number, require
from ..freezing import find_faults
from ..registry import HOOKS
from .runner_access import find_model, optimizer_groups

KEY = 'custom_hooks.FrozenEngineHook'
#: Steps between full comparisons of the weights, which may have changed
#: without a version update.
CHECK_EVERY = 1000


@HOOKS.register_module()
class FrozenEngineHook(Hook):
    """Hook that makes a frozen backbone's forward pass faster.

    The weights of a frozen backbone never change, which MMEngine does not use:
    norms can be folded into convolutions, weights can be cast and laid out
    once, and a compiler can treat them as constants. In training only, the
    backbone's ``forward`` is replaced by the fastest of these variants whose
    features agree with the eager ones on the first batch; docs/engine.md lists
    them. Weights, state dict, checkpoints, evaluation and export are
    unchanged. If the backbone is not fully frozen, or no variant is faster, it
    runs unchanged, which is logged in one line.

    Args:
        dtype: ``'auto'`` for the autocast dtype of the run; ``'fp32'``,
            ``'bf16'`` or ``'fp16'`` for another one in the backbone only.
        compiled: ``'auto'``: ``torch.compile`` on GPUs, for a size that most
            batches have, if it saves time before the run ends; True: try it
            at the first batch, on CPUs too; False: never.
        tolerance: Largest relative error of a feature level in the 2-norm;
            None for 1e-4 in fp32, 1e-2 in fp16 and TF32, 5e-2 in bf16.
        max_sizes: Number of batch sizes that get an engine of their own, if
            one cannot serve all (transformers).

    Raises:
        ValueError: If the value of an option is not allowed.

    Example config::

        custom_hooks = [
            dict(type='NumClassCheckHook'),
            dict(type='mmfrozen.FrozenEngineHook')]
    """

    def __init__(
        self,
        dtype: str = 'auto',
        compiled: bool | str = 'auto',
        tolerance: float | None = None,
        max_sizes: int = 4,
    ) -> None:
        _check('dtype', dtype, ('auto', *DTYPES))
        _check('compiled', compiled, ('auto', True, False))
        require(
            tolerance is None or (is_number(tolerance) and tolerance > 0),
            f'{KEY}.tolerance',
            'a number above 0, or None',
            tolerance,
            'Correct it.',
        )
        check_count(f'{KEY}.max_sizes', max_sizes)
        self._options = dict(
            dtype=dtype,
            compiled=compiled,
            tolerance=tolerance,
            max_sizes=max_sizes,
        )
        self._engine: FrozenEngine | None = None
        self._is_checked = False

    def before_train(self, runner: Runner) -> None:
        """Reset, so that the backbone is checked at the first step."""
        self._remove()
        self._is_checked = False

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Install the engine before the first step.

        Before later steps, check whether the weights have changed since then.
        """
        if not self._is_checked:
            self._is_checked = True
            self._install(runner)
            return
        model = find_model(runner)
        is_graphed = 'run_static' in vars(model)  # skips forward
        is_due = runner.iter % CHECK_EVERY == 0
        if (
            self._engine
            and (is_graphed or is_due)
            and self._engine.reset_if_changed(thoroughly=is_due)
        ):
            vars(model).pop('run_static', None)

    def after_train(self, runner: Runner) -> None:
        """Restore the backbone."""
        self._remove()

    def _install(self, runner: Runner) -> None:
        reason = _unsupported_reason(runner)
        if reason:
            runner.logger.warning(
                f'FrozenEngineHook must have {reason}. The backbone runs '
                'without an engine.'
            )
            return
        model = find_model(runner)
        self._engine = FrozenEngine(
            model.backbone,
            lambda: model.training,
            steps_left=lambda: runner.max_iters - runner.iter,
            log=runner.logger.info,
            **self._options,
        )

    def _remove(self) -> None:
        if self._engine:
            self._engine.remove()
        self._engine = None


def _check(name: str, value: Any, known: tuple[Any, ...]) -> None:
    types = {type(one) for one in known}  # 1 equals True
    require(
        value in known and type(value) in types,
        f'{KEY}.{name}',
        f'one of {known}',
        value,
        'Correct it.',
    )


def _unsupported_reason(runner: Runner) -> str | None:
    model = find_model(runner)
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        return f'a detector with a backbone, got {type(model).__name__}'
    if is_model_wrapper(runner.model) and not isinstance(
        runner.model, DistributedDataParallel
    ):
        return f'whole weights, got {type(runner.model).__name__}'
    if runner.cfg.get('compile'):
        return 'a model that is not compiled itself, got compile in the config'
    faults = find_faults(backbone, optimizer_groups(runner.optim_wrapper))
    if faults:
        return f'a backbone that is frozen as a whole, got {"; ".join(faults)}'
    if 'forward' in vars(backbone):
        return 'the original forward of the backbone, got another'
    hooked = [
        name
        for name, child in backbone.named_modules()
        if name and (child._forward_hooks or child._forward_pre_hooks)
    ]
    if hooked:
        return f'a backbone without hooks inside, got one on {hooked[0]}'
    return None
