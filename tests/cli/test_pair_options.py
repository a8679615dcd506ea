"""What `mmfrozen pair` refuses, and what it asks of each training."""

import sys
import time

import pytest
from mmengine.config import Config

from mmfrozen_cli import pair
from mmfrozen_cli.progress import Progress
from tests.tiny import ROOT

CONFIG = ROOT / 'configs/frozen/mask_rcnn_lite0_mini-lvis.py'
CONTROL = ROOT / 'configs/finetuned' / CONFIG.name


@pytest.fixture
def parse(monkeypatch, tmp_path):
    def parse_args(*options):
        words = ('pair', str(CONFIG), '--work-dirs', str(tmp_path), *options)
        monkeypatch.setattr(sys, 'argv', [str(word) for word in words])
        return pair.parse_args()

    return parse_args


def test_run_of_another_length_is_not_taken_for_this_one(parse, monkeypatch):
    """A whole run of 350 steps is there, and then one of 175."""
    trained = []
    monkeypatch.setattr(pair.Training, '_train', lambda x: trained.append(x))
    half = pair.Training(CONFIG, parse('--length', '0.5'))
    half.work_dir.mkdir(parents=True)
    file = half.work_dir / CONFIG.name
    Config.fromfile(CONFIG).dump(file)
    with pytest.raises(ValueError, match='175 max_iters, got one of 350'):
        half()
    assert not trained
    half.cfg.dump(file)
    half()
    assert len(trained) == 1


def test_run_with_other_options_is_not_taken_for_this_one(parse, monkeypatch):
    trained = []
    monkeypatch.setattr(pair.Training, '_train', lambda x: trained.append(x))
    same = '--cfg-options', 'train_dataloader.batch_size=2'
    for _ in range(2):
        pair.Training(CONFIG, parse(*same))()
    with pytest.raises(ValueError, match='engine.type=mmfrozen.*, got one wi'):
        pair.Training(CONFIG, parse('--engine'))()
    pair.Training(CONTROL, parse('--engine'))()
    assert len(trained) == 3


def test_engine_is_for_the_frozen_run_and_options_come_before_lengths(parse):
    args = parse('--engine', '--cfg-options', 'train_cfg.max_iters=40')
    run, control = (pair.Training(c, args) for c in (CONFIG, CONTROL))
    assert run.cfg.default_hooks.engine.type == 'mmfrozen.FrozenEngineHook'
    assert 'engine' not in control.cfg.default_hooks
    longer = pair.Training(CONFIG, args, factor=1.5)
    assert (run.length, longer.length) == (40, 60)
    assert longer.cfg.param_scheduler[1].end == 525
    assert 'train_cfg.max_iters=60' in longer.args.cfg_options


@pytest.mark.parametrize(
    'options, words',
    [
        (('--equal-time', '--in-turn', '0'), '--equal-time must have'),
        (('--in-turn', '1'), '--in-turn must be 0, or at least 2, got 1'),
        (('--length', '0'), '--length must be above 0, got 0'),
        (('--cfg-options', 'seed'), "must be KEY=VALUE, got 'seed'"),
    ],
)
def test_options_that_do_not_go_are_refused_in_one_line(
    parse, capsys, options, words
):
    with pytest.raises(SystemExit) as error:
        parse(*options)
    line = capsys.readouterr().err.splitlines()[-1]
    assert error.value.code == 2 and words in line


def test_runs_that_cannot_be_timed_are_refused_in_one_line(
    parse, monkeypatch, tmp_path
):
    args = parse()
    runs = [pair.Training(c, args) for c in (CONFIG, CONTROL)]
    folder = tmp_path / 'pairs'

    def save(run):
        run.work_dir.mkdir(parents=True)
        file = run.work_dir / 'last_checkpoint'
        file.write_text(str(run.work_dir / 'iter_350.pth'))

    def fail(*args, **options):
        raise RuntimeError('no\nmemory')

    monkeypatch.setattr(pair, 'measure_in_turn', fail)
    save(runs[0])
    words = f'checkpoint to be timed, got {runs[1].work_dir} without one'
    with pytest.raises(ValueError, match=words):
        pair.time_steps(folder, runs, args)
    save(runs[1])
    words = 'step in one process to be timed, got .*no memory'
    with pytest.raises(ValueError, match=words) as caught:
        pair.time_steps(folder, runs, args)
    assert '\n' not in str(caught.value)
    assert not folder.exists()


def test_time_left_is_told_from_parts_that_took_time(monkeypatch, capsys):
    clock = iter([0, 0, 1, 121, 301])
    monkeypatch.setattr(time, 'monotonic', lambda: float(next(clock)))
    progress = Progress(4)
    progress.begin('a', is_done=True)
    for part in 'bcd':
        progress.begin(part)
    a, b, c, d = capsys.readouterr().err.splitlines()
    assert (a, b) == ('1 of 4: a', '2 of 4: b')
    assert c == '3 of 4: c; 2.0 min so far, about 4.0 left'
    assert d == '4 of 4: d; 5.0 min so far, about 3.0 left'
