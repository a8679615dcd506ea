"""Files that are whole, on real limits of a file system."""

import errno
import os
import resource
import signal
import sys
from contextlib import contextmanager

import pytest

from mmfrozen.atomic_write import (
    PART,
    WriteError,
    atomic_path,
    log_write_errors,
    remove_parts,
    write_bytes,
    write_text,
)

KEPT = b'what was there'


@contextmanager
def files_of(size):
    """No file of this process may grow beyond `size` bytes: EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)


def test_file_that_does_not_fit_leaves_the_one_before_and_no_piece(tmp_path):
    path = tmp_path / 'report.html'
    path.write_bytes(KEPT)
    with files_of(4096), pytest.raises(WriteError) as caught:
        write_bytes(path, b'x' * 12_345)
    message = str(caught.value)
    assert caught.value.errno == errno.EFBIG and '\n' not in message
    assert f'{path} must be written, got File too large' in message
    assert '12,345 bytes needed' in message and ' free' in message
    assert path.read_bytes() == KEPT and os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(sys.platform != 'linux', reason='has no /dev/full')
def test_full_device_is_named_and_never_replaced(tmp_path):
    link = tmp_path / 'out.json'
    link.symlink_to('/dev/full')
    with pytest.raises(WriteError, match='No space left on device') as caught:
        write_text(link, '{}')
    assert caught.value.errno == errno.ENOSPC
    assert link.is_symlink() and not os.path.exists('/dev/full' + PART)


def test_pipe_is_written_to(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, 'text')
    assert os.read(reader, 9) == b'text'
    os.close(reader)


def test_link_and_mode_of_a_file_stay(tmp_path):
    path, link = tmp_path / 'file', tmp_path / 'link'
    path.write_bytes(KEPT)
    path.chmod(0o640)
    link.symlink_to(path)
    write_text(link, 'ü')
    assert link.is_symlink() and path.read_bytes() == 'ü'.encode()
    assert path.stat().st_mode & 0o777 == 0o640


def test_failure_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(KEPT)
    with pytest.raises(KeyError), atomic_path(path) as part:
        part.write_bytes(b'half')
        raise KeyError
    assert path.read_bytes() == KEPT and os.listdir(tmp_path) == ['file']


def test_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='file/x must be written'):
        write_text(tmp_path / 'file/x', '')


def test_run_goes_on_without_a_file_and_says_so(tmp_path):
    (tmp_path / 'file').touch()
    said = []
    with log_write_errors(said.append):
        write_text(tmp_path / 'file/x', '')
    [line] = said
    assert 'must be written' in line and 'The run continues.' in line
    with pytest.raises(PermissionError), log_write_errors(said.append):
        raise PermissionError


def test_pieces_of_killed_runs_are_removed_and_nothing_else(tmp_path):
    (tmp_path / 'val').mkdir()
    for name in ('a.pth' + PART, 'val/b.npz' + PART, 'mine.part', 'a.pth'):
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['a.pth', 'mine.part', 'val']
    assert os.listdir(tmp_path / 'val') == []
