"""What a run of a config comes to, in a process of its own."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import re
import resource
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfrozen.config_check import check_config
from mmfrozen.runner import CheckedRunner

SECONDS = 240
BYTES = 12 << 30  # beyond those of the process that forks
#: Not from this process: a pool of threads that it has would hang in a fork.
FORK = multiprocessing.get_context('forkserver')
FORK.set_forkserver_preload(['tests.config_check.trial'])


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        kind: ``'step'``: the first step was taken, its loss and every
            gradient finite; ``'not finite'``; ``'error'``; ``'lost'``: the
            process died or took too long.
        line: The last line of an error.
        place: The file that raised it.
        warnings: Lines of the log that warn.
    """

    kind: str
    line: str = ''
    place: str = ''
    warnings: str = ''

    def names(self, word: str) -> bool:
        """Whether the line, or a warning before the step, has a word."""
        pattern = rf'(?<![\w]){re.escape(word)}(?![\w])'
        return bool(
            re.search(pattern, self.line)
            or (self.kind == 'step' and re.search(pattern, self.warnings))
        )


class _Taken(Exception):
    """The first step is behind us."""


class _StopAfterStep(Hook):
    priority = 'LOWEST'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Look at losses and gradients, then end the run."""
        finite = all(torch.isfinite(v).all() for v in outputs.values())
        finite &= all(
            p.grad.isfinite().all()
            for p in runner.model.parameters()
            if p.grad is not None
        )
        raise _Taken('step' if finite else 'not finite')


def first_step(
    cfg: dict[str, Any], runner_class: Any = CheckedRunner
) -> Outcome:
    """Run a config as MMDetection's ``tools/train.py`` does, up to the end
    of its first step.

    Args:
        cfg: The config.
        runner_class: What builds it: the pack's runner, or MMEngine's.
    """
    if runner_class is CheckedRunner:  # it needs no process
        try:
            check_config(Config(copy.deepcopy(cfg)))
        except Exception as error:
            return Outcome('error', *_explain(error))
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_run, args=(cfg, runner_class, theirs))
    process.start()
    theirs.close()
    outcome = Outcome('lost')
    if ours.poll(SECONDS):
        with contextlib.suppress(EOFError):
            outcome = ours.recv()
    process.kill()
    process.join()
    return outcome


def _run(cfg: dict[str, Any], runner_class: Any, pipe: Any) -> None:
    limit = psutil.Process().memory_info().vms + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        kind, line, place = _outcome(cfg, runner_class, folder)
        logs = [path.read_text() for path in Path(folder).rglob('*.log')]
        lines = '\n'.join(logs).splitlines()
        warnings = [line for line in lines if 'WARNING' in line]
        pipe.send(Outcome(kind, line, place, '\n'.join(warnings)))


@contextlib.contextmanager
def _without_prose() -> Iterator[None]:
    """Without what takes 80 % of the time and decides nothing: asking a
    compiler for its version, and formatting the config for the log."""
    with (
        mock.patch('mmengine.runner.runner.collect_env', dict),
        mock.patch(
            'mmengine.config.config.FormatCode',
            lambda text, **_: (text, True),
        ),
    ):
        yield


def _outcome(
    cfg: dict[str, Any], runner_class: Any, folder: str
) -> tuple[str, str, str]:
    try:
        config = Config(cfg)
        config.work_dir = folder
        config.launcher = 'none'
        with _without_prose():
            runner = runner_class.from_cfg(config)
            runner.register_hook(_StopAfterStep())
            runner.train()
    except _Taken as taken:
        return str(taken), '', ''
    except BaseException as error:
        return ('error', *_explain(error))
    return 'error', 'the run ended without a step', ''


def _explain(error: BaseException) -> tuple[str, str]:
    """The last line of a traceback, and where it comes from."""
    line = traceback.format_exception_only(error)[-1].strip()
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return line.splitlines()[-1], f'{frame.filename}:{frame.lineno}'
