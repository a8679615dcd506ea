"""A hook that records how far the backbone drifts from its classifier."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from ..atomic_write import log_write_errors
from ..errors import check_count
from ..freezing import digest
from ..freezing.components import backbone_namer
from ..freezing.drift import measure
from ..registry import HOOKS
from ..run_files import DRIFT, DriftRecord
from .runner_access import find_backbone


def short_name(stage: str) -> str:
    """Convert ``'backbone.stage 1'`` to ``'stage_1'``, a TensorBoard tag."""
    return stage.removeprefix('backbone.').replace(' ', '_')


@HOOKS.register_module()
class DriftHook(Hook):
    """Hook that records the backbone's drift from its initialisation.

    MMDetection does not show how much of a classifier fine-tuning keeps. Every
    ``interval`` steps and at the end, this hook writes
    ``WORK_DIR/drift.json`` (a list of
    :class:`~mmfrozen.run_files.DriftRecord`) and the scalars ``drift/STAGE``
    (relative L2 norm of the parameters' change), which are 0 in a frozen run.

    The reference is the backbone as its ``init_cfg`` left it, before
    ``load_from`` or ``resume`` change it, so a resumed run still measures from
    the classifier and continues the file. Runs from scratch are measured from
    their random weights, which a resumed run reproduces if ``randomness.seed``
    is set; if not, a warning says so.

    It costs one copy of the backbone in CPU memory (170 MB for R101) and, for
    each record, a transfer of the backbone to the CPU and a pass over it, in
    the main process.

    Args:
        interval: Training steps between records.

    Example config::

        default_hooks = dict(
            drift=dict(type='mmfrozen.DriftHook', interval=500))
    """

    priority = 'LOW'

    def __init__(self, interval: int = 500) -> None:
        check_count('default_hooks.drift.interval', interval)
        self.interval = interval
        self._is_active = False

    def before_run(self, runner: Runner) -> None:
        """Activate the hook in training only, and only in the main process."""
        self._is_active = is_main_process() and isinstance(
            runner.optim_wrapper, OptimWrapper
        )
        self._before: dict[str, Tensor] = {}
        self._records: list[DriftRecord] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Copy the reference before the model loads the checkpoint."""
        self._remember(runner)

    def before_train(self, runner: Runner) -> None:
        """Continue the file of a resumed run, or start a new one."""
        if not self._is_active:
            return
        self._remember(runner)
        if runner.iter:
            old = DRIFT.read(Path(runner.work_dir)) or []
            self._records = [x for x in old if x.iter <= runner.iter]
        if any(x.reference != self._reference for x in self._records):
            runner.logger.warning(
                f'{DRIFT.name} continues from another initialisation than the '
                'one it began with (see its key "reference"). Set '
                'randomness.seed.'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Record the drift at the interval."""
        if self._is_active and self.every_n_train_iters(runner, self.interval):
            self._record(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Record the drift at the end, unless the last step was recorded."""
        if self._is_active and (
            not self._records or self._records[-1].iter != runner.iter
        ):
            self._record(runner, runner.iter)

    def _remember(self, runner: Runner) -> None:
        if not self._is_active or self._before:
            return
        state = find_backbone(runner).state_dict()
        self._before = {n: t.detach().cpu().clone() for n, t in state.items()}
        digests = ''.join(map(digest, self._before.values()))
        self._reference = hashlib.sha256(digests.encode()).hexdigest()[:16]

    def _record(self, runner: Runner, step: int) -> None:
        backbone = find_backbone(runner)
        stages = measure(
            self._before, backbone.state_dict(), backbone_namer(backbone)
        )
        record = DriftRecord(step, runner.epoch, self._reference, stages)
        self._records.append(record)
        with log_write_errors(runner.logger.error):
            DRIFT.write(Path(runner.work_dir), self._records)
        scalars = {
            f'drift/{short_name(stage)}': drift.relative_l2
            for stage, drift in stages.items()
            if drift.relative_l2 is not None
        }
        runner.visualizer.add_scalars(scalars, step=step)
        for name, value in scalars.items():
            runner.message_hub.update_scalar(name, value)
