"""Checkpoints that are always whole, on full disks and in preemption too."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pickle
import re
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import CheckpointLoader, Runner, save_checkpoint

from ...atomic_write import WriteError, remove_parts, write_bytes, write_text
from ...freezing import REFERENCE
from ...registry import HOOKS
from .stop_request import StopRequest
from .whole import find_whole, why_broken

BACKEND = 'mmfrozen.atomic'
FULL = (errno.ENOSPC, errno.EDQUOT)


@register_backend(BACKEND)
class AtomicBackend(LocalBackend):
    """Local files that are whole or not there."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file atomically."""
        write_bytes(filepath, obj)


class _RemoveLater:
    """A file backend that removes only when the new file is written."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.waiting: list[tuple[Any, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.waiting.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.waiting.append((self.backend.rmtree, path))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, whose files outlive whatever ends a run.

    What MMEngine lacks: it writes over its files and removes the oldest
    checkpoint before it writes the new one. Here

    - a checkpoint and ``last_checkpoint`` are written atomically, and older
      ones are removed afterwards, so that there is room for one more needed;
    - ``resume=True`` passes over a damaged checkpoint for the last whole one;
    - a checkpoint that cannot be written is an error in the log, and the run
      goes on; it ends with that error if the last one is missing;
    - after SIGTERM or SIGUSR1 the run finishes its step, writes a checkpoint
      and exits with status 128 + signal (143, 138). SIGTERM once more, after
      three seconds, ends it at once.

    Options are CheckpointHook's. Remote backends write as before.
    docs/reliability.md compares it with MMEngine's.

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
        self._in_step = False

    def before_run(self, runner: Runner) -> None:
        """Choose what to resume from, and watch for signals."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # nothing is trained
        if not runner._has_loaded:
            self._choose(runner)
        if self._catches:
            self._guard(runner)

    def before_train(self, runner: Runner) -> None:
        """Take the atomic backend where files are local."""
        super().before_train(runner)
        client = getattr(self.file_backend, 'client', self.file_backend)
        if isinstance(client, LocalBackend):
            self.file_client_args = None
            self.backend_args = dict(backend=BACKEND)
            self.file_backend = get_file_backend(
                backend_args=self.backend_args
            )

    def before_train_iter(self, runner: Runner, *args: Any, **_: Any) -> None:
        """From here on the model is in between two states."""
        self._in_step = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, *args: Any, **inputs: Any
    ) -> None:
        """Save where it is time, and stop where that was asked for."""
        super().after_train_iter(runner, batch_idx, *args, **inputs)
        self._in_step = not _is_updated(runner.optim_wrapper)
        if not self._stop.exchange() or self._in_step:
            return
        if self.by_epoch and self.end_of_epoch(
            runner.train_dataloader, batch_idx
        ):
            return  # and save as at the end of every epoch
        self._save_and_leave(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Likewise."""
        super().after_train_epoch(runner)
        if self._stop.agreed and self.by_epoch:
            if self._saved_at != runner.iter:
                self._save_checkpoint(runner)
            self._leave(runner)

    def after_val_iter(
        self, runner: Runner, *args: Any, **inputs: Any
    ) -> None:
        """Save at once: an evaluation may take longer than what is left."""
        if self._stop.received and self._saved_at != runner.iter:
            self._save_in_val(runner)
        if self._stop.received and self._stop.is_alone:
            self._leave(runner)

    def after_val_epoch(self, runner: Runner, metrics: Any) -> None:
        """Save what is best, then stop."""
        super().after_val_epoch(runner, metrics)
        if self._stop.exchange(wait=True):
            self._save_and_leave(runner, runner.iter)

    def after_run(self, runner: Runner) -> None:
        """End with an error if what is to be kept could not be written."""
        self._raise_failures()

    def _guard(self, runner: Runner) -> None:
        """Let the loop of this run catch signals, and no longer than it runs:
        hooks do not learn of exceptions."""
        loop = runner.train_loop
        vars(loop).pop('run', None)
        run = loop.run

        def guarded() -> Any:
            try:
                with self._stop.caught():
                    try:
                        return run()
                    except RuntimeError:  # a data loader lost its workers
                        if self._in_step or not self._stop.received:
                            raise
                        self._save_and_leave(runner, runner.iter)
            finally:
                vars(loop).pop('run', None)

        loop.run = guarded

    def _choose(self, runner: Runner) -> None:
        """Find a whole checkpoint, in the main process, for all."""
        outcome: list[Any] = [None]
        if is_main_process():
            try:
                outcome = [self._find(runner)]
            except (OSError, ValueError) as error:
                outcome = [error]
        broadcast_object_list(outcome)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        runner._load_from = outcome[0]

    def _find(self, runner: Runner) -> str | None:
        work_dir = Path(runner.work_dir)
        folder = work_dir
        if self.out_dir is not None and self.out_dir != runner.work_dir:
            folder = Path(self.out_dir, work_dir.name)
        for place in {work_dir, folder}:
            remove_parts(place)
        given = runner._load_from
        if given is not None:
            is_zip = os.path.isfile(given) and _begins_as_zip(given)
            why = why_broken(Path(given)) if is_zip else None
            if why:
                raise ValueError(
                    f'load_from must be a whole checkpoint, got {given!r} '
                    f'({why}). Copy it again, or name another one.'
                )
        if given is not None or not runner._resume:
            return given
        names = {
            re.escape(template).replace(r'\{\}', r'(\d+)'): per
            for template, per in (
                ('iter_{}.pth', 1),
                (
                    self.filename_tmpl,
                    len(runner.train_dataloader) if self.by_epoch else 1,
                ),
            )
        }

        def position(name: str) -> int | None:
            for pattern, per in names.items():
                match = re.fullmatch(pattern, name)
                if match:
                    return int(match[1]) * per
            return None

        path, broken = find_whole(work_dir, folder, position)
        for other, why in broken.items():
            runner.logger.warning(
                f'{other} is no whole checkpoint ({why}): resuming from '
                f'{path} in its place.'
            )
        return path

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict[str, Any]
    ) -> None:
        kept = [*getattr(self, 'keep_ckpt_ids', ())]
        ids = [i for i in kept if i != step] + [step]
        stale = ids[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        name = self.filename_tmpl.format(step)
        info = dict(interim_ckpt=None)
        if self.max_keep_ckpts > 0:  # with those that are still there
            info['keep_ckpt_ids'] = ids
        is_saved = self._write(runner, name, meta, info)
        if not is_saved and self._is_full and len(ids) > len(stale) + 1:
            self._remove_steps(stale)  # which make room, and leave one
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
            runner: That trains.
            name: Of the file.
            meta: ``epoch`` and ``iter`` that are done.
            info: For the message hub that is written with it.

        Returns:
            False if that failed, which is logged.
        """
        self._saved_at = meta['iter']
        former = runner.message_hub.get_info('interim_ckpt', None)
        path = self.file_backend.join_path(self.out_dir, name)
        with self._going_on(runner, 'checkpoint'):
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
        backend, removals = self.file_backend, _RemoveLater(self.file_backend)
        former = [
            (name, getattr(self, name))
            for name in ('best_ckpt_path', 'best_ckpt_path_dict')
            if hasattr(self, name)
        ]
        former = [
            (n, dict(x) if isinstance(x, dict) else x) for n, x in former
        ]
        self.file_backend = removals
        try:
            with self._going_on(runner, 'best checkpoint'):
                super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        if 'best checkpoint' in self._failures:
            for attribute, value in former:
                setattr(self, attribute, value)
            return
        best = [
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        ]
        for remove, path in removals.waiting:
            if path not in best:
                remove(path)

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
    def _going_on(self, runner: Runner, kind: str) -> Iterator[None]:
        """Log what cannot be written, and put the message hub back."""
        hub = runner.message_hub
        before = hub.runtime_info
        try:
            yield
        except WriteError as error:
            for name in set(hub.runtime_info) - set(before):
                hub.pop_info(name)
            hub.update_info_dict(before)
            self._failures[kind] = str(error)
            self._is_full = error.errno in FULL
            runner.logger.error(
                f'{kind}: {error} Training goes on, and the next {kind} is '
                'tried in its time.'
            )
        else:
            self._failures.pop(kind, None)

    def _raise_failures(self) -> None:
        if self._failures:
            raise RuntimeError(
                'The last checkpoint must be written, got: '
                + ' '.join(self._failures.values())
            )

    def _save_in_val(self, runner: Runner) -> None:
        """Save between two steps, with an average of weights put aside."""
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.after_val_epoch(runner)
        self._save_now(runner, runner.iter)
        if not self._stop.is_alone:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.before_val_epoch(runner)

    def _save_now(self, runner: Runner, done: int) -> None:
        """Save after `done` steps."""
        meta = dict(epoch=runner.epoch, iter=done)
        per = len(runner.train_dataloader)
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, done, meta)
        elif done == runner.epoch * per:
            self._save_checkpoint_with_step(runner, runner.epoch, meta)
        else:  # in the middle of an epoch: only until the next one
            name = f'iter_{done}.pth'
            path = self.file_backend.join_path(self.out_dir, name)
            self._write(runner, name, meta, dict(interim_ckpt=path))

    def _save_and_leave(self, runner: Runner, done: int) -> None:
        if self._saved_at != done:
            self._save_now(runner, done)
        self._leave(runner)

    def _leave(self, runner: Runner) -> None:
        """Exit as a shell reports a process that the signal has ended."""
        number = self._stop.agreed or self._stop.received
        self._stop.meet()
        self._raise_failures()
        runner.logger.warning(
            f'{signal.Signals(number).name}: stops after {self._saved_at} '
            f'steps, which {self.last_ckpt} holds; --resume goes on.'
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
        elif self.file_backend.isdir(path):  # DeepSpeed's
            self.file_backend.rmtree(path)


def _is_updated(wrapper: OptimWrapper) -> bool:
    """Whether the last step ended an accumulation of gradients."""
    is_many = isinstance(wrapper, OptimWrapperDict)
    wrappers = wrapper.values() if is_many else [wrapper]
    return all(one.should_update() for one in wrappers)


def _begins_as_zip(path: str) -> bool:
    with open(path, 'rb') as file:
        return file.read(2) == b'PK'
