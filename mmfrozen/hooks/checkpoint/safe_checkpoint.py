"""A checkpoint hook that tolerates full disks and preemption."""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import os
import pickle
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.optim import OptimWrapper
from mmengine.runner import CheckpointLoader, Runner, save_checkpoint

from ...atomic_write import WriteError, write_text
from ...freezing import REFERENCE
from ...registry import HOOKS
from ..runner_access import optim_wrappers
from .backends import BACKEND, DeferredRemoval
from .resume_from import choose
from .stop_request import StopRequest, shield_workers

FULL = (errno.ENOSPC, errno.EDQUOT)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook with atomic files and a stop on signals.

    MMEngine's hook overwrites its files in place and removes the oldest
    checkpoint before it writes the new one. With this hook:

    - a checkpoint and ``last_checkpoint`` are written atomically, and older
      ones are removed afterwards, so disk space for one more is needed;
    - ``resume=True`` falls back from a damaged checkpoint to the last
      complete one;
    - if a checkpoint cannot be written, an error is logged and the run
      continues; it ends with that error if the last checkpoint is missing;
    - after SIGTERM or SIGUSR1 the run finishes its step, writes a checkpoint
      and exits with status 128 + signal (143, 138). Another SIGTERM more than
      three seconds after the first ends it at once.

    The other options are CheckpointHook's. Remote backends write as before.
    docs/reliability.md compares this hook with MMEngine's.

    Args:
        stop_on_signals: Whether to catch SIGTERM and SIGUSR1.
    """

    def __init__(
        self, *args: Any, stop_on_signals: bool = True, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._catches = stop_on_signals
        self._stop = StopRequest()
        self._failures: dict[str, str] = {}
        self._saved_at = -1
        self._guarded: Any = None
        self._in_step = self._in_val = self._is_full = False

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to resume from and prepare signal handling."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # nothing is trained
        if not runner._has_loaded:
            per = len(runner.train_dataloader) if self.by_epoch else 1
            steps = {'iter_{}.pth': 1, self.filename_tmpl: per}
            choose(runner, self._folder(runner), steps)
        if self._catches:
            self._catch_signals(runner)
            for loop in (runner.train_loop, runner.val_loop):
                if loop is not None:
                    shield_workers(loop.dataloader)

    def before_train(self, runner: Runner) -> None:
        """Switch to the atomic backend if the files are local."""
        super().before_train(runner)
        client = getattr(self.file_backend, 'client', self.file_backend)
        if isinstance(client, LocalBackend):
            self.file_client_args = None
            self.backend_args = dict(backend=BACKEND)
            self.file_backend = get_file_backend(
                backend_args=self.backend_args
            )

    def before_train_iter(self, runner: Runner, *args: Any, **_: Any) -> None:
        """Mark that a step is in progress and must not be saved."""
        self._in_step = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, *args: Any, **inputs: Any
    ) -> None:
        """Save if due, and stop if a signal was received."""
        super().after_train_iter(runner, batch_idx, *args, **inputs)
        self._in_step = not _is_updated(runner.optim_wrapper)
        if not self._stop.exchange() or self._in_step:
            return
        if self.by_epoch and self.end_of_epoch(
            runner.train_dataloader, batch_idx
        ):
            return  # after_train_epoch saves and stops
        self._save_and_exit(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save if due, and stop if a signal was received."""
        super().after_train_epoch(runner)
        if self._stop.agreed and self.by_epoch:
            if self._saved_at != runner.iter:
                self._save_checkpoint(runner)
            self._exit(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Mark that EMA weights may replace the trained ones."""
        self._in_val = True

    def after_val_iter(
        self, runner: Runner, *args: Any, **inputs: Any
    ) -> None:
        """Save at once on a signal, as the grace period may be too short."""
        if self._stop.received and self._saved_at != runner.iter:
            self._save_now(runner, runner.iter)
        if self._stop.received and self._stop.is_alone:
            self._exit(runner)

    def after_val_epoch(self, runner: Runner, metrics: Any) -> None:
        """Save the best checkpoint, then stop if a signal was received."""
        self._in_val = False
        super().after_val_epoch(runner, metrics)
        if self._stop.exchange(wait=True):
            self._save_and_exit(runner, runner.iter)

    def after_run(self, runner: Runner) -> None:
        """Raise an error if the last checkpoint could not be written."""
        self._raise_failures()

    def _catch_signals(self, runner: Runner) -> None:
        """Catch signals only while the train loop runs.

        The loop is wrapped, as hooks are not called after an exception.
        """
        loop = runner.train_loop
        if self._guarded and vars(loop).get('run') is self._guarded:
            return  # wrapped by a train() that failed early
        run, own = loop.run, 'run' in vars(loop)

        def guarded() -> Any:
            try:
                with self._stop.handle_signals():
                    try:
                        return run()
                    except Exception as error:
                        if self._in_step or not self._stop.received:
                            raise
                        # a data loader lost its workers, which had started
                        # before shield_workers took effect
                        runner.logger.warning(f'after the signal: {error}')
                        self._save_and_exit(
                            runner, runner.iter, barrier=not is_main_process()
                        )
            finally:
                if own:
                    loop.run = run
                else:
                    del loop.run

        loop.run = self._guarded = guarded

    def _folder(self, runner: Runner) -> Path:
        work_dir = Path(runner.work_dir)
        if self.out_dir in (None, runner.work_dir):
            return work_dir
        return Path(self.out_dir, work_dir.name)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict[str, Any]
    ) -> None:
        kept = [*getattr(self, 'keep_ckpt_ids', ())]
        ids = [i for i in kept if i != step] + [step]
        stale = ids[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        name = self.filename_tmpl.format(step)
        info = dict(interim_ckpt=None)
        if self.max_keep_ckpts > 0:  # includes checkpoints not yet removed
            info['keep_ckpt_ids'] = ids
        is_saved = self._write(runner, name, meta, info)
        if not is_saved and self._is_full and len(ids) > len(stale) + 1:
            self._remove_steps(stale)  # frees space; one checkpoint is kept
            is_saved = self._write(runner, name, meta, info)
        if not is_saved:
            return
        if self.max_keep_ckpts > 0:
            self._remove_steps(stale)
            ids = ids[len(stale) :]
            self.keep_ckpt_ids = deque(ids, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', ids)

    def _write(
        self,
        runner: Runner,
        name: str,
        meta: dict[str, Any],
        info: dict[str, Any],
    ) -> bool:
        """Write a checkpoint, then ``last_checkpoint``.

        Args:
            runner: The runner.
            name: Name of the file.
            meta: Numbers ``epoch`` and ``iter`` of completed epochs and steps.
            info: Values for the message hub, saved in the checkpoint.

        Returns:
            False if writing failed; the error is logged.
        """
        self._saved_at = meta['iter']
        former = runner.message_hub.get_info('interim_ckpt', None)
        path = self.file_backend.join_path(self.out_dir, name)
        with self._log_write_errors(runner, 'checkpoint'):
            runner.message_hub.update_info_dict(info | dict(last_ckpt=path))
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                record = Path(runner.work_dir, 'last_checkpoint')
                write_text(record, path)
            self.last_ckpt = path
            if former and former != path:
                self._remove(former)
        return 'checkpoint' not in self._failures

    def _save_best_checkpoint(self, runner: Runner, metrics: Any) -> None:
        if not self.save_best or not hasattr(self, 'file_backend'):
            return  # a test run has nothing to save
        backend, removals = (
            self.file_backend,
            DeferredRemoval(self.file_backend),
        )
        former, lost = self._best(), self._failures.get('best checkpoint')
        self.file_backend = removals
        try:
            with self._log_write_errors(runner, 'best checkpoint'):
                super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        if 'best checkpoint' in self._failures:
            vars(self).update(former)
            return
        if lost and self._best() == former:  # no better one was saved since
            self._failures['best checkpoint'] = lost
        best = str(self._best())
        for remove, path in removals.waiting:
            if repr(path) not in best:
                remove(path)

    def _best(self) -> dict[str, Any]:
        names = ('best_ckpt_path', 'best_ckpt_path_dict')
        return copy.deepcopy(
            {k: v for k, v in vars(self).items() if k in names}
        )

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        checkpoint = CheckpointLoader.load_checkpoint(ckpt_path)
        wanted = (*(self.published_keys or ()), REFERENCE)
        published = {k: v for k, v in checkpoint.items() if k in wanted}
        digest = hashlib.sha256(pickle.dumps(published)).hexdigest()
        path = f'{os.path.splitext(ckpt_path)[0]}-{digest[:8]}.pth'
        save_checkpoint(published, path, backend_args=self.backend_args)
        left_out = sorted(set(checkpoint) - set(published))
        runner.logger.info(f'Published {path}, without {left_out}.')

    @contextlib.contextmanager
    def _log_write_errors(self, runner: Runner, kind: str) -> Iterator[None]:
        """Log write errors instead of raising them.

        After an error the message hub is restored.
        """
        hub = runner.message_hub
        before = dict(hub.runtime_info)
        try:
            yield
        except WriteError as error:
            for name in set(hub.runtime_info) - set(before):
                hub.pop_info(name)
            hub.update_info_dict(before)
            self._failures[kind] = str(error)
            self._is_full = error.errno in FULL
            runner.logger.error(
                f'{kind}: {error} Training continues, and the next {kind} is '
                'written at its regular time.'
            )
        else:
            self._failures.pop(kind, None)

    def _raise_failures(self) -> None:
        if self._failures:
            raise RuntimeError(
                'The last checkpoint must be written, got: '
                + ' '.join(self._failures.values())
            )

    def _save_now(self, runner: Runner, done: int) -> None:
        """Save after `done` steps.

        An evaluation may use EMA weights; the trained weights are saved.
        """
        averages = [
            hook
            for hook in runner.hooks
            if self._in_val and isinstance(hook, EMAHook)
        ]
        for hook in averages:
            hook.after_val_epoch(runner)
        self._save_after(runner, done)
        for hook in averages:
            hook.before_val_epoch(runner)

    def _save_after(self, runner: Runner, done: int) -> None:
        meta = dict(epoch=runner.epoch, iter=done)
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, done, meta)
        elif done == runner.epoch * len(runner.train_dataloader):
            self._save_checkpoint_with_step(runner, runner.epoch, meta)
        else:  # mid-epoch: kept until the next one
            name = f'iter_{done}.pth'
            path = self.file_backend.join_path(self.out_dir, name)
            self._write(runner, name, meta, dict(interim_ckpt=path))

    def _save_and_exit(
        self, runner: Runner, done: int, *, barrier: bool = True
    ) -> None:
        if self._saved_at != done:
            self._save_now(runner, done)
        self._exit(runner, barrier=barrier)

    def _exit(self, runner: Runner, *, barrier: bool = True) -> None:
        """Exit with 128 + signal, as a shell reports a signal."""
        self._in_step = True  # never save again on an error
        number = self._stop.agreed or self._stop.received
        if barrier:
            self._stop.barrier()
        self._raise_failures()
        runner.logger.warning(
            f'{signal.Signals(number).name}: stops after {self._saved_at} '
            f'steps, which are saved in {self.last_ckpt}; --resume continues.'
        )
        raise SystemExit(128 + number)

    def _remove_steps(self, steps: list[int]) -> None:
        for step in steps:
            self._remove(
                self.file_backend.join_path(
                    self.out_dir, self.filename_tmpl.format(step)
                )
            )

    @master_only
    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed writes folders
            self.file_backend.rmtree(path)


def _is_updated(wrapper: OptimWrapper) -> bool:
    """Return whether the last step completed a gradient accumulation."""
    return all(one.should_update() for one in optim_wrappers(wrapper))
