"""What is on the disk, whatever happens while it is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmfrozen.atomic_write import PART, WriteError
from tests.test_atomic_write import files_of
from tests.tiny import ROOT, build

from .runs import make

SMALL = 3_000  # bytes, less than a checkpoint


def names(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth*'))


def last(work_dir):
    return Path((work_dir / 'last_checkpoint').read_text()).name


def while_full(at, until=None):
    """Hooks between which no checkpoint fits on the disk."""
    limit = files_of(SMALL)

    def begin(runner):
        limit.__enter__()

    def end(runner):
        limit.__exit__(None, None, None)

    hooks = [dict(type='Call', stage='before_train_iter', function=begin)]
    hooks[0]['at'] = at
    if until is None:
        hooks.append(dict(type='Call', stage='after_train', function=end))
    else:
        hooks.append(dict(hooks[0], function=end, at=until))
    return hooks


@pytest.mark.parametrize(
    ('options', 'left'),
    (
        (dict(iters=3), ['iter_1', 'iter_2', 'iter_3']),
        (dict(iters=6, max_keep_ckpts=1), ['iter_6']),
        (dict(iters=5, interval=2), ['iter_2', 'iter_4', 'iter_5']),
        (dict(iters=5, interval=2, save_last=False), ['iter_2', 'iter_4']),
        (dict(epochs=3, max_keep_ckpts=2), ['epoch_2', 'epoch_3']),
    ),
)
def test_same_files_as_mmengines(tmp_path, options, left):
    for hook in ('CheckpointHook', 'mmfrozen.SafeCheckpointHook'):
        make(tmp_path / hook, hook=hook, **options).train()
        assert names(tmp_path / hook) == [f'{name}.pth' for name in left]
        assert last(tmp_path / hook) == f'{left[-1]}.pth'


def test_files_in_another_folder_are_mmengines(tmp_path):
    for hook in ('CheckpointHook', 'mmfrozen.SafeCheckpointHook'):
        out = tmp_path / 'out' / hook
        options = dict(iters=5, max_keep_ckpts=2, out_dir=str(out))
        make(tmp_path / 'run', hook=hook, **options).train()
        assert names(out / 'run') == ['iter_4.pth', 'iter_5.pth']
        assert last(tmp_path / 'run') == 'iter_5.pth'
        assert not names(tmp_path / 'run')


def test_same_content_as_mmengines(tmp_path):
    loaded = []
    for hook in ('CheckpointHook', 'mmfrozen.SafeCheckpointHook'):
        torch.manual_seed(0)
        make(tmp_path / hook, hook=hook, max_keep_ckpts=2).train()
        loaded.append(
            torch.load(tmp_path / hook / 'iter_6.pth', weights_only=False)
        )
    stock, ours = loaded
    assert set(stock) == set(ours)
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert str(stock[key]) == str(ours[key])
    assert ours['meta']['iter'] == 6 and ours['meta']['epoch'] == 0


def test_best_and_published_checkpoints_are_mmengines(tmp_path):
    options = dict(scores=[0.2, 0.5, 0.3], save_best='acc', interval=2)
    options.update(published_keys=['state_dict', 'meta'], max_keep_ckpts=1)
    for hook in ('CheckpointHook', 'mmfrozen.SafeCheckpointHook'):
        make(tmp_path / hook, hook=hook, **options).train()
        left = names(tmp_path / hook)
        assert [n for n in left if '-' not in n] == [
            'best_acc_iter_4.pth',
            'iter_6.pth',
        ]
        published = [n for n in left if '-' in n]
        assert len(published) == 2, left
        for name in published:
            keys = torch.load(tmp_path / hook / name, weights_only=False)
            assert set(keys) == {'state_dict', 'meta'}


def test_oldest_is_removed_when_the_newest_is_written(tmp_path):
    seen = []

    def look(runner, checkpoint=None):
        seen.append(names(tmp_path))

    hook = dict(type='Call', stage='before_save_checkpoint', function=look)
    make(tmp_path, max_keep_ckpts=1, iters=3, hooks=[hook]).train()
    assert seen == [[], ['iter_1.pth'], ['iter_2.pth']]


def test_full_disk_for_a_while_ends_no_run(tmp_path, capfd):
    make(tmp_path, max_keep_ckpts=1, hooks=while_full(2, 4)).train()
    assert names(tmp_path) == ['iter_6.pth'] and last(tmp_path) == 'iter_6.pth'
    errors = [x for x in capfd.readouterr().out.splitlines() if 'ERROR' in x]
    assert len(errors) == 2
    assert 'iter_3.pth must be written, got File too large' in errors[0]
    assert 'bytes needed' in errors[0] and 'Training continues' in errors[0]


def test_full_disk_at_the_end_is_an_error_and_keeps_what_there_was(tmp_path):
    with pytest.raises(RuntimeError, match='last checkpoint must be written'):
        make(tmp_path, max_keep_ckpts=1, hooks=while_full(3)).train()
    assert names(tmp_path) == ['iter_3.pth'] and last(tmp_path) == 'iter_3.pth'
    runner = make(tmp_path, resume=True, max_keep_ckpts=1)
    runner.train()
    assert names(tmp_path) == ['iter_6.pth']


def test_best_that_does_not_fit_leaves_the_best_before(tmp_path):
    options = dict(scores=[0.2, 0.5, 0.3], save_best='acc', interval=10)
    seen = []

    def look(runner=None):
        seen.extend(n for n in names(tmp_path) if 'best' in n)

    hook = dict(type='Call', stage='before_train_iter', function=look, at=4)
    make(tmp_path, hooks=[*while_full(3, 4), hook], **options).train()
    look()
    assert seen == ['best_acc_iter_2.pth', 'best_acc_iter_6.pth']
    assert last(tmp_path) == 'iter_6.pth'  # 0.3 beats what is on the disk


def test_old_checkpoint_makes_room_where_one_is_left(tmp_path, monkeypatch):
    """No real disk that is full to the byte can be had without root."""
    from mmfrozen.hooks.checkpoint import backends

    upstream = backends.write_bytes

    def write(path, content):
        if len(list(tmp_path.glob('iter*.pth'))) == 2:
            error = WriteError('full')
            error.errno = 28
            raise error
        upstream(path, content)

    monkeypatch.setattr(backends, 'write_bytes', write)
    make(tmp_path, max_keep_ckpts=2).train()
    assert names(tmp_path) == ['iter_5.pth', 'iter_6.pth']


def test_scalars_that_do_not_fit_are_left_out_by_the_line(tmp_path):
    runner = make(tmp_path)
    add = runner.visualizer.add_scalars
    add({'loss': 1}, step=1)
    [log] = tmp_path.glob('*/vis_data/scalars.json')
    with files_of(log.stat().st_size + 10):
        add({'loss': 2}, step=2)
    add({'loss': 3}, step=3)
    steps = [json.loads(x)['step'] for x in log.read_text().splitlines()]
    assert steps == [1, 3]


def test_lean_checkpoints_of_a_frozen_run_are_safe_too(config):
    config.default_hooks.frozen_guard.save_backbone = False
    config.train_cfg.max_epochs = 2
    build(config).train()
    work_dir = Path(config.work_dir)
    path = work_dir / 'epoch_2.pth'
    path.write_bytes(path.read_bytes()[:-50])
    (work_dir / f'epoch_2.pth{PART}').touch()
    config.resume = True
    config.train_cfg.max_epochs = 1
    runner = build(config)
    runner.train()
    assert runner.iter == 2 and names(work_dir) == [
        'epoch_1.pth',
        'epoch_2.pth',
    ]


def test_no_kill_loses_a_checkpoint_and_processes_stop_together(tmp_path):
    command = [sys.executable, '-m', 'tests.hooks.checkpoint.runs']
    done = subprocess.run(
        [*command, tmp_path / 'runs', '3', 'mmfrozen.SafeCheckpointHook'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    for keep in (1, 2):
        ours = found['lost'][f'mmfrozen.SafeCheckpointHook {keep}']
        assert ours == dict(kills=3, nothing=0, last=0)
    for ends, left in found['stopped'].values():
        assert [(rank, status) for rank, status, _ in ends] == [
            (0, 138),
            (1, 138),
        ]
        steps = {step for _, _, step in ends}
        assert len(steps) == 1 and len(left) == 1
