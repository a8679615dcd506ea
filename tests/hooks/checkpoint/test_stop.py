"""Runs that are asked to end: step, checkpoint, status, handlers."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from .runs import make, send

TERM, USR1 = signal.SIGTERM, signal.SIGUSR1
DEFAULTS = {n: signal.SIG_DFL for n in (TERM, USR1)}


@pytest.fixture(autouse=True)
def as_before():
    """Whatever happens, handlers are what they were."""
    yield
    assert {n: signal.getsignal(n) for n in DEFAULTS} == DEFAULTS


def stopped(runner):
    with pytest.raises(SystemExit) as caught:
        runner.train()
    return caught.value.code


def left(work_dir):
    """Names, epoch and step of the last checkpoint."""
    names = sorted(path.name for path in work_dir.glob('*.pth'))
    last = Path((work_dir / 'last_checkpoint').read_text())
    meta = torch.load(last, weights_only=False)['meta']
    return names, last.name, meta['epoch'], meta['iter']


@pytest.mark.parametrize(('number', 'status'), ((TERM, 143), (USR1, 138)))
def test_step_is_finished_and_saved(tmp_path, number, status, capfd):
    runner = make(tmp_path, interval=10, hooks=[send(number)])
    assert stopped(runner) == status
    assert left(tmp_path) == (['iter_3.pth'], 'iter_3.pth', 0, 3)
    assert f'{number.name}: stops after 3 steps' in capfd.readouterr().out


def test_checkpoint_within_an_epoch_goes_when_the_next_is_written(tmp_path):
    options = dict(epochs=2, max_keep_ckpts=1)
    assert stopped(make(tmp_path, hooks=[send(TERM, at=5)], **options)) == 143
    both = ['epoch_1.pth', 'iter_6.pth']
    assert left(tmp_path) == (both, 'iter_6.pth', 1, 6)
    make(tmp_path, resume=True, **options).train()
    assert left(tmp_path)[:2] == (['epoch_2.pth'], 'epoch_2.pth')


def test_two_stops_within_an_epoch_leave_one_checkpoint(tmp_path):
    assert stopped(make(tmp_path, epochs=2, hooks=[send(TERM, at=0)])) == 143
    again = make(tmp_path, epochs=2, resume=True, hooks=[send(TERM, at=1)])
    assert stopped(again) == 143
    assert left(tmp_path)[0] == ['iter_2.pth']


def test_last_step_of_an_epoch_ends_it(tmp_path):
    runner = make(tmp_path, epochs=2, interval=2, hooks=[send(TERM, at=3)])
    assert stopped(runner) == 143
    assert left(tmp_path) == (['epoch_1.pth'], 'epoch_1.pth', 1, 4)


def test_accumulation_of_gradients_is_ended_first(tmp_path):
    options = dict(interval=10, iters=12, accumulate=4)
    assert stopped(make(tmp_path, hooks=[send(TERM, at=1)], **options)) == 143
    assert left(tmp_path)[3] == 4


@pytest.mark.parametrize('interval', (1, 10))
def test_evaluation_is_broken_off_with_its_step_saved(tmp_path, interval):
    seen = []
    count = dict(type='Call', stage='before_val_iter', function=seen.append)
    hooks = [send(TERM, 'before_val_iter', at=2), count]
    runner = make(tmp_path, interval=interval, scores=[1] * 9, hooks=hooks)
    assert stopped(runner) == 143 and len(seen) == 1
    assert left(tmp_path)[1:] == ('iter_2.pth', 0, 2)


def test_average_of_weights_is_saved_apart_in_an_evaluation(tmp_path):
    def run(name, stage, at):
        torch.manual_seed(0)
        ema = dict(type='EMAHook', momentum=0.5)
        options = dict(interval=10, scores=[1] * 9)
        hooks = [ema, send(TERM, stage, at=at)]
        assert stopped(make(tmp_path / name, hooks=hooks, **options)) == 143
        return torch.load(tmp_path / name / 'iter_2.pth', weights_only=False)

    training = run('training', 'before_train_iter', 1)
    evaluation = run('evaluation', 'before_val_iter', 2)
    for part in ('state_dict', 'ema_state_dict'):
        for name, tensor in training[part].items():
            assert torch.equal(tensor, evaluation[part][name]), (part, name)


@pytest.mark.parametrize('number', (TERM, USR1))
def test_workers_outlive_the_signal(tmp_path, number):
    """Slurm sends it to every process."""
    alive = []

    def signal_all(runner):
        os.kill(os.getpid(), number)
        [worker] = torch.multiprocessing.active_children()
        # from another process than the worker's own, which it obeys
        subprocess.run(['kill', f'-{number}', str(worker.pid)], check=True)
        worker.join(0.1)
        alive.append(worker.is_alive())

    hook = dict(type='Call', stage='after_train_iter', function=signal_all)
    hook.update(at=1, priority='LOWEST')
    runner = make(tmp_path, epochs=2, workers=1, hooks=[hook])
    assert stopped(runner) == 128 + number
    assert alive == [True] and left(tmp_path)[3] == 3


def test_workers_end_when_their_own_process_ends_them(tmp_path):
    """As Python does where an exception keeps their loader alive."""
    ended = []

    def end(runner):
        [worker] = torch.multiprocessing.active_children()
        worker.terminate()
        worker.join(5)
        ended.append(worker.exitcode)

    hook = dict(type='Call', stage='after_train_iter', function=end)
    hook.update(at=3, priority='LOWEST')
    make(tmp_path, epochs=2, workers=1, hooks=[hook]).train()
    assert ended == [0]


def test_workers_that_the_same_signal_ends_do_not_lose_the_checkpoint(
    tmp_path,
):
    """Those that MMEngine's IterBasedTrainLoop starts too early."""

    def kill_all(runner):
        os.kill(os.getpid(), TERM)
        workers = torch.multiprocessing.active_children()
        assert len(workers) == 1
        for worker in workers:
            worker.kill()  # and leave it to torch's handler of SIGCHLD
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)

    for stage in ('before_train_iter', 'after_train_iter'):
        hook = dict(type='Call', stage=stage, function=kill_all, at=2)
        options = dict(interval=10, workers=1, iters=20)
        runner = make(
            tmp_path / stage, hooks=[dict(hook, priority='LOWEST')], **options
        )
        assert stopped(runner) == 143
        torch.multiprocessing.active_children()  # reaps it; torch would raise
        assert signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL
        steps = left(tmp_path / stage)[3]  # batches may be waiting
        assert steps == 3 or stage == 'after_train_iter' and steps == 4


def test_second_sigterm_after_three_seconds_ends_at_once(
    tmp_path, monkeypatch
):
    times = iter((100.0, 101.0, 104.0))
    killed = []

    def thrice(runner):
        for _ in range(3):
            os_kill(os.getpid(), TERM)

    os_kill = os.kill
    from mmfrozen.hooks.checkpoint import stop_request

    class Os:
        getpid = os.getpid

        @staticmethod
        def kill(pid, number):
            killed.append((pid, number, signal.getsignal(number)))

    monkeypatch.setattr(stop_request, 'os', Os)
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(stop_request, 'time', clock)
    hook = dict(type='Call', stage='before_train_iter', function=thrice, at=2)
    assert stopped(make(tmp_path, hooks=[hook])) == 143
    assert killed == [(os.getpid(), TERM, signal.SIG_DFL)]


def test_handlers_of_others_are_left_alone(tmp_path):
    received = []
    signal.signal(USR1, lambda *_: received.append(1))
    try:
        hooks = [send(USR1)]
        make(tmp_path, hooks=hooks).train()
        assert received == [1]
    finally:
        signal.signal(USR1, signal.SIG_DFL)


def test_handlers_are_put_back_after_an_error(tmp_path):
    def fail(runner):
        assert signal.getsignal(TERM) is not signal.SIG_DFL
        raise KeyError

    hook = dict(type='Call', stage='after_train_iter', function=fail, at=1)
    runner = make(tmp_path, hooks=[hook])
    with pytest.raises(KeyError):
        runner.train()
    assert 'run' not in vars(runner.train_loop)


def test_nothing_is_caught_where_that_is_not_wanted(tmp_path):
    seen = []

    def look(runner):
        seen.append(signal.getsignal(TERM))

    hook = dict(type='Call', stage='after_train_iter', function=look, at=1)
    make(tmp_path, hooks=[hook], stop_on_signals=False).train()
    assert seen == [signal.SIG_DFL]


def test_run_in_a_thread_trains(tmp_path):
    thread = threading.Thread(target=make(tmp_path).train)
    thread.start()
    thread.join()
    assert left(tmp_path)[3] == 6


def test_checkpoint_that_cannot_be_saved_is_no_clean_stop(tmp_path):
    from .test_safe_checkpoint import while_full

    hooks = [*while_full(2, 99), send(TERM)]
    runner = make(tmp_path, interval=10, hooks=hooks)
    try:
        with pytest.raises(RuntimeError, match='must be written'):
            runner.train()
    finally:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
