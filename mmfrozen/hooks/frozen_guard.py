"""Verify during a run that the backbone's state is what the config says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from ..checkpoints import check_file, is_local
from ..freezing import (
    LoadRecorder,
    changed_tensors,
    count_parameters,
    digest,
    find_faults,
    fingerprint,
)
from ..records import BackboneRecord

STATES = ('frozen', 'finetuned', 'scratch')
KEY = 'model.backbone'
THAW = 'or use configs/finetuned/'


@HOOKS.register_module()
class FrozenGuardHook(Hook):
    """Stops a run whose backbone is not in the state that its config claims.

    What the host lacks: nothing there notices that a backbone trains, moves
    or was never loaded (mmdetection #10881).

    Before the first step it checks that a frozen backbone is frozen in all
    six meanings (docs/design.md); that the controls train every stage; that
    ``frozen`` and ``finetuned`` backbones were filled from a classifier's
    weights to the last tensor, and that ``scratch`` ones were not. A frozen
    backbone is compared bit by bit with its classifier at every checkpoint,
    before the file is written, and at the end. Nothing is checked in
    validation and testing. Writes ``WORK_DIR/backbone.json``.

    Args:
        state: ``'frozen'``, ``'finetuned'`` or ``'scratch'``.

    Raises:
        ValueError: If the config contradicts the state.
        RuntimeError: If a frozen backbone has changed.

    Example config::

        default_hooks = dict(frozen_guard=dict(type='FrozenGuardHook'))
    """

    priority = 'VERY_HIGH'

    def __init__(self, state: str = 'frozen') -> None:
        if state not in STATES:
            raise ValueError(
                f'default_hooks.frozen_guard.state must be one of {STATES}, '
                f'got {state!r}. Correct it.'
            )
        self.state = state
        self._recorder: LoadRecorder | None = None
        self._before: dict[str, str] = {}
        self._modes_checked = False

    def before_run(self, runner: Runner) -> None:
        """Check the built model, then watch its weights being loaded."""
        self._recorder = None
        self._modes_checked = False
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # testing: nothing is trained
        backbone = _backbone(runner)
        self._check_stages(backbone)
        checkpoint = _classifier(backbone)
        if self.state == 'scratch':
            if checkpoint:
                raise ValueError(
                    f'{KEY}.init_cfg must be None from scratch, got '
                    f'{checkpoint!r}. Set it to None, {THAW}.'
                )
        elif not checkpoint:
            raise ValueError(
                f'{KEY}.init_cfg must name a classifier in a {self.state} '
                "run, got None. Set init_cfg=dict(type='Pretrained', "
                'checkpoint=...), or use configs/scratch/.'
            )
        elif is_local(checkpoint):
            check_file(checkpoint, f'{KEY}.init_cfg.checkpoint')
        self._recorder = LoadRecorder(backbone)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse ``load_from`` and ``resume`` files with another backbone."""
        if self._recorder is None:
            return
        self._finish_loading(runner)
        if self.state != 'frozen':
            return
        own = _backbone(runner).state_dict()
        other = _select(checkpoint.get('state_dict', checkpoint))
        differ = [
            name
            for name in other
            if name in own and digest(own[name]) != digest(other[name])
        ]
        if differ:
            raise ValueError(
                'load_from and resume must keep the classifier in a frozen '
                f'run, got a checkpoint whose backbone differs in '
                f'{len(differ)} tensors, the first is {differ[0]}. Name as '
                f'{KEY}.init_cfg.checkpoint what it was trained from, {THAW}.'
            )

    def before_train(self, runner: Runner) -> None:
        """Check where the weights came from and take their fingerprint."""
        self._finish_loading(runner)
        backbone = _backbone(runner)
        if self.state == 'frozen':
            self._before = fingerprint(backbone)
        record = self._record(runner, backbone)
        share = record.model.trainable / max(record.model.total, 1)
        runner.logger.info(
            f'{self.state} {record.backbone_type}: trains '
            f'{record.model.trainable / 1e6:.1f} M of '
            f'{record.model.total / 1e6:.1f} M parameters ({share:.1%}); '
            f'in the backbone {record.backbone.trainable / 1e6:.1f} M of '
            f'{record.backbone.total / 1e6:.1f} M'
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Before the first step, when ``train()`` has just been called."""
        if self._modes_checked:
            return
        self._modes_checked = True
        if self.state != 'frozen':
            return
        backbone = _backbone(runner)
        faults = find_faults(
            backbone, runner.optim_wrapper.optimizer.param_groups
        )
        if faults:
            raise ValueError(
                f'{KEY} must be frozen, got: {"; ".join(faults)}. '
                f'{_remedy(faults)}'
            )
        self._handle = backbone.register_forward_hook(self._check_outputs)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Before the file is written: nothing wrong overwrites a good one."""
        self._check_unchanged(runner)

    def after_train(self, runner: Runner) -> None:
        """At the end of the run."""
        self._check_unchanged(runner)

    def _check_stages(self, backbone: nn.Module) -> None:
        idle = [
            n for n, p in backbone.named_parameters() if not p.requires_grad
        ]
        moving = [n for n, p in backbone.named_parameters() if p.requires_grad]
        name = type(backbone).__name__
        stages = getattr(backbone, 'frozen_stages', None)
        if self.state == 'frozen' and moving:
            if hasattr(backbone, 'num_stages') and stages is not None:
                raise ValueError(
                    f'{KEY}.frozen_stages must cover all '
                    f'{backbone.num_stages} stages of {name} in a frozen '
                    f'config, got {stages}. Set frozen_stages='
                    f'{backbone.num_stages}, {THAW}.'
                )
            raise ValueError(
                f'{KEY} must be frozen from construction on, got '
                f'{len(moving)} trainable parameters in {name}, the first '
                f"is {moving[0]}. Write type='FrozenBackbone', "
                f"backbone=dict(type='{name}', ...), {THAW}."
            )
        if self.state != 'frozen' and idle:
            raise ValueError(
                f'{KEY} must train every stage in a {self.state} config, got '
                f'{len(idle)} frozen parameters in {name}, the first is '
                f'{idle[0]}. Set frozen_stages=-1 or frozen=False, or use '
                'configs/frozen/.'
            )

    def _finish_loading(self, runner: Runner) -> None:
        """Once the classifier is loaded: was all of it?"""
        if self._recorder is None:
            return
        missing = self._recorder.stop()
        self._recorder = None
        if self.state == 'scratch' or not missing:
            return
        more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
        backbone = _backbone(runner)
        raise ValueError(
            f'{KEY}.init_cfg.checkpoint must fill every tensor of '
            f'{type(backbone).__name__}, got {_classifier(backbone)!r}, '
            f'which leaves {len(missing)} random: '
            f'{", ".join(missing[:5])}{more}. Give the weights of that '
            'architecture.'
        )

    def _check_outputs(self, _: nn.Module, __: tuple, outputs: object) -> None:
        """At the first forward: nothing is kept for a backward pass."""
        self._handle.remove()
        levels = outputs.values() if isinstance(outputs, dict) else outputs
        if any(isinstance(x, Tensor) and x.requires_grad for x in levels):
            raise ValueError(
                f'{KEY} must keep nothing for a backward pass, got features '
                'that require grad. Take out what trains inside or before '
                f'it, {THAW}.'
            )

    def _check_unchanged(self, runner: Runner) -> None:
        if self.state != 'frozen':
            return
        backbone = _backbone(runner)
        changed = changed_tensors(self._before, fingerprint(backbone))
        if changed:
            raise RuntimeError(
                f'{KEY} must stay bitwise what its classifier was, got '
                f'{len(changed)} changed tensors at iteration {runner.iter}, '
                f'the first is {changed[0]}. No checkpoint was written; find '
                'what writes to it (a hook, EMA, a head that shares it).'
            )
        self._record(runner, backbone, verified_iter=runner.iter)

    def _record(
        self,
        runner: Runner,
        backbone: nn.Module,
        verified_iter: int | None = None,
    ) -> BackboneRecord:
        record = BackboneRecord(
            state=self.state,
            backbone_type=type(backbone).__name__,
            classifier=_classifier(backbone),
            backbone=count_parameters(backbone),
            model=count_parameters(_model(runner)),
            verified_iter=verified_iter,
        )
        if is_main_process():
            path = Path(runner.work_dir, 'backbone.json')
            path.write_text(json.dumps(asdict(record), indent=2) + '\n')
        return record


def _model(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _backbone(runner: Runner) -> nn.Module:
    model = _model(runner)
    if not hasattr(model, 'backbone'):
        raise ValueError(
            f'{KEY} must exist for FrozenGuardHook, got a '
            f'{type(model).__name__} without one. Remove the hook.'
        )
    return model.backbone


def _classifier(backbone: nn.Module) -> str | None:
    """The checkpoint that ``init_cfg`` names."""
    init_cfg = getattr(backbone, 'init_cfg', None) or {}
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        return init_cfg.get('checkpoint')
    return None


def _select(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors in the state dict of a whole detector."""
    named = ((k.removeprefix('module.'), v) for k, v in state_dict.items())
    return {
        k.removeprefix('backbone.'): v
        for k, v in named
        if k.startswith('backbone.')
    }


def _remedy(faults: list[str]) -> str:
    if 'optimizer' in ' '.join(faults):
        return (
            "Set optim_wrapper.constructor='TrainableOptimWrapperConstructor'."
        )
    return "Set norm_eval=True, or wrap it in type='FrozenBackbone'."
