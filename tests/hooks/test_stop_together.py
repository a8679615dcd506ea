"""Processes that die, or have unlike data, end all of them."""

import os
import signal
import time

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmfrozen.hooks import stop_together
from tests.two_processes import in_two_processes

from .non_finite.toy import run


class Die(Hook):
    """Ends the second process after its second step."""

    def after_train_iter(self, runner, *args, **kwargs):
        if get_rank() == 1 and runner.iter == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_death(folder):
    runner, _ = run(folder, {})
    runner.register_hook(Die())
    try:
        runner.train()
    except RuntimeError as error:
        return str(error)
    return None


def test_without_a_launcher_a_dead_process_ends_the_others(tmp_path):
    start = time.time()
    first, second = in_two_processes(train_until_death, tmp_path, tmp_path)
    assert time.time() - start < 30
    assert first is not None, 'it could not finish'
    assert second is None
    kept = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert 'iter_1.pth' in kept and 'iter_3.pth' not in kept


class Check(Hook):
    """What FrozenGuardHook does in every run."""

    def before_train(self, runner):
        stop_together.check_equal_shares(runner)


def train_on_unlike_data(folder):
    runner, watch = run(folder, {}, steps=4 - get_rank())
    runner.register_hook(Check())
    try:
        runner.train()
    except BaseException as error:
        return error
    return None


def test_unlike_data_is_refused_before_the_first_step(monkeypatch, tmp_path):
    monkeypatch.setattr(stop_together, 'GRACE', 0)
    first, second = in_two_processes(train_on_unlike_data, tmp_path, tmp_path)
    assert str(first) == (
        'All processes must have the same training data, got 8 images in 4 '
        'batches on rank 0 and 6 in 3 on rank 1. Make the annotation files '
        'and images equal on all machines.'
    )
    assert isinstance(second, SystemExit) and second.code == 1
    assert not list(tmp_path.glob('*.pth'))
