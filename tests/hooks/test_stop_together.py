"""Processes that die, or have unlike data, end all of them."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, IterableDataset

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


class Stream(IterableDataset):
    """Batches without a known number."""

    def __iter__(self):
        return iter(())


def test_streams_have_no_number_of_batches_to_compare():
    loader = DataLoader(Stream())
    stop_together.check_equal_shares(SimpleNamespace(train_dataloader=loader))


class Check(Hook):
    """What FrozenGuardHook does in every run."""

    def before_train(self, runner):
        stop_together.check_equal_shares(runner)


def train_on(folder, steps, sampler):
    runner, watch = run(folder, {}, steps=steps[get_rank()], sampler=sampler)
    runner.register_hook(Check())
    try:
        runner.train()
    except BaseException as error:
        return error
    return None


@pytest.mark.parametrize(
    ('steps', 'sampler', 'line'),
    [
        (
            (4, 3),
            {},
            '4 of 8 images on rank 0 and 3 of 6 on rank 1. Make the '
            'annotation files and images equal on all machines.',
        ),
        (
            (3.5, 3.5),
            dict(round_up=False),
            '4 of 7 images on rank 0 and 3 of 7 on rank 1. Set '
            'round_up=True in train_dataloader.sampler.',
        ),
    ],
)
def test_unlike_data_is_refused_before_the_first_step(
    steps, sampler, line, monkeypatch, tmp_path
):
    monkeypatch.setattr(stop_together, 'EXIT_DELAY', 0)
    first, second = in_two_processes(
        train_on, tmp_path, tmp_path, steps, sampler
    )
    assert str(first) == (
        'All processes must have the same number of batches of the same data, '
        'got ' + line
    )
    assert isinstance(second, SystemExit) and second.code == 1
    assert not list(tmp_path.glob('*.pth'))
