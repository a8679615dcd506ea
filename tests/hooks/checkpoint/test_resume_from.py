"""Damaged checkpoints are passed over, and said to be."""

import random

import pytest
import torch

from mmfrozen.atomic_write import PART
from mmfrozen.hooks.checkpoint.resume_from import why_broken

from .runs import make


@pytest.fixture
def work_dir(tmp_path):
    """A run of 6 steps, which left a checkpoint of each."""
    make(tmp_path / 'run').train()
    return tmp_path / 'run'


class Begun(Exception):
    """Far enough."""


def resumed_at(work_dir, **options):
    """The step that a run begins with."""
    starts = []

    def begin(runner):
        starts.append(runner.iter)
        raise Begun

    hooks = [dict(type='Call', stage='before_train', function=begin)]
    with pytest.raises(Begun):
        make(work_dir, resume=True, hooks=hooks, **options).train()
    return starts[0]


def test_checkpoint_cut_anywhere_is_broken(work_dir):
    path = work_dir / 'iter_6.pth'
    whole = path.read_bytes()
    assert why_broken(path) is None
    dice = random.Random(0)
    for size in [0, 1, len(whole) - 1, *dice.sample(range(len(whole)), 40)]:
        path.write_bytes(whole[:size])
        assert why_broken(path), size


def test_flipped_bit_of_a_tensor_is_seen(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save({'w': torch.arange(5000.0)}, path)
    whole = bytearray(path.read_bytes())
    start = whole.find(torch.arange(5000.0).numpy().tobytes())
    dice = random.Random(0)
    for place in dice.sample(range(start, start + 20_000), 20):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        torch.load(path)  # which says nothing
        assert 'damaged' in why_broken(path)


@pytest.mark.parametrize('size', (0, 700))
def test_damaged_checkpoint_is_passed_over_in_one_line(work_dir, size, capfd):
    path = work_dir / 'iter_6.pth'
    path.write_bytes(path.read_bytes()[:size])
    assert resumed_at(work_dir) == 5
    [line] = [x for x in capfd.readouterr().out.splitlines() if 'iter_6' in x]
    assert f'{path} is not a complete checkpoint' in line
    assert f'resuming from {work_dir}/iter_5.pth' in line


def test_checkpoint_that_is_gone_is_passed_over(work_dir):
    (work_dir / 'iter_6.pth').unlink()
    assert resumed_at(work_dir) == 5


def test_named_checkpoint_is_taken_though_it_is_not_the_last(work_dir):
    (work_dir / 'last_checkpoint').write_text(f'{work_dir}/iter_3.pth\n')
    assert resumed_at(work_dir) == 3


@pytest.mark.parametrize('content', ('', None))
def test_cut_off_last_checkpoint_loses_nothing(work_dir, content):
    record = work_dir / 'last_checkpoint'
    record.unlink() if content is None else record.write_text(content)
    assert resumed_at(work_dir) == 6


def test_work_dir_that_was_moved_is_resumed(work_dir):
    moved = work_dir.rename(work_dir.with_name('moved'))
    assert resumed_at(moved) == 6


def test_without_a_whole_one_the_run_is_refused_and_nothing_changes(work_dir):
    for path in work_dir.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:500])
    kept = [*work_dir.glob('*.pth'), work_dir / 'last_checkpoint']
    before = [path.read_bytes() for path in kept]
    with pytest.raises(ValueError) as caught:
        make(work_dir, resume=True).train()
    message = str(caught.value)
    assert message.startswith('resume must find a complete checkpoint in')
    assert 'iter_1.pth' in message and '\n' not in message
    assert before == [path.read_bytes() for path in kept]


def test_run_without_checkpoints_begins(tmp_path):
    assert resumed_at(tmp_path) == 0


@pytest.mark.parametrize('name', ('None', '', 'lost/epoch_1.pth'))
def test_load_from_that_is_not_there_is_refused_by_its_key(tmp_path, name):
    with pytest.raises(FileNotFoundError, match='load_from must be') as error:
        make(tmp_path, load_from=name).train()
    assert repr(name) in str(error.value)


def test_broken_load_from_is_refused_in_one_line(work_dir, tmp_path):
    path = work_dir / 'iter_6.pth'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match='load_from must be') as caught:
        make(tmp_path / 'new', load_from=str(path)).train()
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_broken_load_from_below_the_home_folder_is_refused(
    work_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv('HOME', str(work_dir))
    path = work_dir / 'iter_6.pth'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="complete checkpoint, got '~/iter_6"):
        make(tmp_path / 'new', load_from='~/iter_6.pth').train()


def test_checkpoint_of_an_epoch_is_older_than_one_within_the_next(tmp_path):
    make(tmp_path, epochs=2).train()
    (tmp_path / 'epoch_2.pth').rename(tmp_path / 'iter_5.pth')
    (tmp_path / 'last_checkpoint').unlink()
    assert resumed_at(tmp_path, epochs=2) == 8
    (tmp_path / 'iter_5.pth').unlink()
    assert resumed_at(tmp_path, epochs=2) == 4


def test_pieces_of_a_killed_run_are_removed(work_dir):
    piece = work_dir / f'iter_7.pth{PART}'
    piece.touch()
    assert resumed_at(work_dir) == 6
    assert not piece.exists()
