"""Signals on their way from `mmfrozen pair` to the training."""

import os
import signal
import subprocess
import sys
import threading
import time

import mim.cli
import pytest

from mmfrozen_cli import mim_child, mim_process

#: A process that waits for another, as mim does for the training.
CHILD = """
import os, pathlib, signal, sys, time
ready, received = map(pathlib.Path, sys.argv[1:])
def end(number, frame):
    received.write_text(signal.Signals(number).name)
    sys.exit(128 + number)
numbers = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
for number in numbers:
    signal.signal(number, lambda *_: None)
if os.fork():
    os.wait()
    sys.exit()
for number in numbers:
    signal.signal(number, end)
ready.touch()
time.sleep(20)
"""


@pytest.mark.parametrize(
    ('sent', 'handed_on'),
    (
        ('SIGINT', 'SIGTERM'),
        ('SIGTERM', 'SIGTERM'),
        ('SIGHUP', 'SIGTERM'),
        ('SIGUSR1', 'SIGUSR1'),
    ),
)
def test_signal_reaches_the_training_and_is_reported(
    tmp_path, sent, handed_on
):
    number = getattr(signal, sent)
    before = {n: signal.getsignal(n) for n in mim_process.FORWARDED}
    ready, received = tmp_path / 'ready', tmp_path / 'received'

    def send():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if ready.exists():
                os.kill(os.getpid(), number)
                return
            time.sleep(0.01)

    child = sys.executable, '-c', CHILD, str(ready), str(received)
    with (tmp_path / 'lock').open('w') as file:
        threading.Thread(target=send, daemon=True).start()
        with pytest.raises(mim_process.Stopped) as stopped:
            mim_process._run(*child, lock=file.fileno())
    assert stopped.value.args == (number,)
    assert received.read_text() == handed_on
    assert before == {n: signal.getsignal(n) for n in mim_process.FORWARDED}


def test_failure_of_the_training_is_an_error(tmp_path):
    with (
        (tmp_path / 'lock').open('w') as file,
        pytest.raises(subprocess.CalledProcessError),
    ):
        mim_process._run(sys.executable, '-c', 'exit(3)', lock=file.fileno())


def test_work_dir_in_which_a_run_of_before_trains_is_refused(tmp_path):
    with mim_process._lock(tmp_path) as lock:
        orphan = subprocess.Popen(
            [sys.executable, '-c', 'input()'],
            stdin=subprocess.PIPE,
            pass_fds=[lock],
        )
    with (
        pytest.raises(ValueError, match='still trains'),
        mim_process._lock(tmp_path),
    ):
        pass
    orphan.communicate(b'\n')
    with mim_process._lock(tmp_path):
        pass


@pytest.mark.parametrize(('code', 'status'), ((-15, 143), (138, 138)))
def test_mim_waits_and_passes_the_status_on(monkeypatch, code, status):
    def run_mim():
        os.kill(os.getpid(), signal.SIGTERM)
        raise subprocess.CalledProcessError(code, 'train.py')

    monkeypatch.setattr(mim.cli, 'cli', run_mim)
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        with pytest.raises(SystemExit) as ended:
            mim_child.main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == status
