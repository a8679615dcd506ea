"""A hook that checks that the backbone is in the state of the config."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ...fit import check_fit
from ...freezing import REFERENCE, LoadRecorder, restore_backbone
from ...freezing.capacity import capacity_warning
from ...pairing import STATES
from ...registry import HOOKS
from ..runner_access import (
    backbone_config,
    find_backbone,
    find_model,
    optimizer_groups,
    write_record,
)
from ..stop_together import AllRanksCheck, check_equal_shares
from .frozen_backbone_check import FrozenBackboneCheck
from .init_checks import (
    check_filled,
    check_init,
    check_random,
    check_same,
    check_stages,
)
from .partial_freeze_check import PartialFreezeCheck
from .trainable_backbone_check import TrainableBackboneCheck


@HOOKS.register_module()
class FrozenGuardHook(Hook):
    """Hook that stops a run whose backbone is not in its configured state.

    MMDetection does not detect that a backbone trains, changes or was never
    loaded (mmdetection #10881).

    Before the first step this hook checks that the parts of the detector fit
    one another; that a frozen backbone is frozen in all six meanings
    (docs/freezing.md); that the controls train every stage; that every tensor
    of ``frozen`` and ``finetuned`` backbones was loaded from a classifier's
    weights, and that ``scratch`` ones are random. The backbone of a control
    must have changed by its first checkpoint. A frozen backbone is checked
    again at every checkpoint, before the file is written, and at the end, and
    compared bit by bit with its classifier (see FrozenBackboneCheck), in every
    process; in ``partial`` runs the same holds for whatever was frozen at
    construction, in the neck and the heads too. Nothing is checked in
    validation and testing. The hook writes ``WORK_DIR/backbone.json``.
    docs/proof.md lists the faults that it finds.

    Args:
        state: ``'frozen'``, ``'partial'``, ``'finetuned'``, ``'scratch'``, or
            ``'thawed'`` for a second phase, checked as a fine-tuned run.
        save_backbone: Whether checkpoints include the backbone; False only if
            it is frozen.

    Raises:
        ValueError: If the config contradicts the state.
        RuntimeError: If a frozen backbone changes or is no longer frozen, or
            if the backbone of a control does not change.

    Example config::

        default_hooks = dict(frozen_guard=dict(type='FrozenGuardHook'))
    """

    priority = 'VERY_HIGH'

    def __init__(
        self, state: str = 'frozen', save_backbone: bool = True
    ) -> None:
        if state not in STATES:
            raise ValueError(
                f'default_hooks.frozen_guard.state must be one of {STATES}, '
                f'got {state!r}. Correct it.'
            )
        if not save_backbone and state != 'frozen':
            raise ValueError(
                'default_hooks.frozen_guard.save_backbone must be True where '
                f'the backbone trains, got False and state={state!r}. Remove '
                'it.'
            )
        self.state, self._save_backbone = state, save_backbone
        self._recorder: LoadRecorder | None = None
        self._check_hook: (
            FrozenBackboneCheck
            | TrainableBackboneCheck
            | PartialFreezeCheck
            | None
        ) = None

    def before_run(self, runner: Runner) -> None:
        """Check the built model, then record which weights are loaded."""
        self._recorder = None
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # a test run trains nothing
        backbone, model = find_backbone(runner), find_model(runner)
        check_fit(model)
        check_init(model, self.state, backbone_config(runner)[0])
        if self.state == 'partial':
            self._recorder = LoadRecorder(model)
            if self._check_hook is None:
                self._check_hook = PartialFreezeCheck(model)
                runner.register_hook(self._check_hook)
                runner.register_hook(AllRanksCheck(self._check_hook.check))
            return
        groups = optimizer_groups(runner.optim_wrapper)
        check_stages(backbone, self.state, groups)
        self._recorder = LoadRecorder(backbone)
        if self._check_hook is None:
            self._check_hook = (
                FrozenBackboneCheck(backbone, self._save_backbone)
                if self.state == 'frozen'
                else TrainableBackboneCheck(self.state)
            )
            runner.register_hook(self._check_hook)
            if isinstance(self._check_hook, FrozenBackboneCheck):
                runner.register_hook(AllRanksCheck(self._check_hook.check))
        elif isinstance(self._check_hook, FrozenBackboneCheck):
            self._check_hook.renew(backbone)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check that a file loaded in a frozen run has the same backbone.

        The classifier's backbone is added to files without one.
        """
        if REFERENCE in checkpoint:
            backbone = find_backbone(runner)
            if not isinstance(runner.optim_wrapper, OptimWrapper):
                backbone.init_weights()  # not called in a test run
            restore_backbone(checkpoint, backbone, backbone_config(runner)[0])
        if self._recorder is None or self.state == 'partial':
            return  # the frozen part may be loaded from this file
        self._finish_loading(runner)
        if self.state == 'frozen':
            key = backbone_config(runner)[0]
            check_same(find_backbone(runner), checkpoint, key)

    def before_train(self, runner: Runner) -> None:
        """Check which weights were loaded and fingerprint them."""
        check_equal_shares(runner)
        if isinstance(self._check_hook, PartialFreezeCheck):
            if self._recorder:
                missing = self._recorder.stop()
                self._recorder = None
                self._check_hook.take_fingerprint(
                    find_model(runner), runner.cfg.get('model'), missing
                )
        else:
            self._finish_loading(runner)
            if isinstance(self._check_hook, TrainableBackboneCheck):
                self._check_hook.take_fingerprint(find_model(runner))
            elif self._check_hook:
                self._check_hook.take_fingerprint(find_backbone(runner))
        record = write_record(runner, self.state)
        share = record.model.trainable / max(record.model.total, 1)
        runner.logger.info(
            f'{self.state} {record.backbone_type}: trains '
            f'{record.model.trainable / 1e6:.1f} M of '
            f'{record.model.total / 1e6:.1f} M parameters ({share:.1%}); '
            f'in the backbone {record.backbone.trainable / 1e6:.1f} M of '
            f'{record.backbone.total / 1e6:.1f} M'
        )
        little = capacity_warning(record.model.trainable, record.model.total)
        if little and self.state == 'frozen':
            runner.logger.warning(f'{self.state}: {little}')

    def _finish_loading(self, runner: Runner) -> None:
        """Check that the backbone was loaded, or is random from scratch."""
        if self._recorder is None:
            return
        missing = self._recorder.stop()
        self._recorder = None
        backbone = find_backbone(runner)
        key, config = backbone_config(runner)
        if self.state == 'scratch':
            check_random(backbone, config, key)
        else:
            check_filled(backbone, config, missing, key)
