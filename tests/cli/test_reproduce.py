"""`mmfrozen reproduce`: real runs of a few steps, killed and continued."""

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from mmfrozen.lock import locked
from mmfrozen.mini_lvis.weights import export_lite0
from mmfrozen.reports.claims import record
from mmfrozen.reports.claims.cells import PAIR, VARIANTS, Cell
from mmfrozen.reports.claims.record import (
    CLAIM_RUN,
    record_file,
    steps_file,
)
from mmfrozen.run_files import STEPS_IN_TURN
from mmfrozen_cli import reproduce
from tests.reports.claims.records import make, tuning

#: The second is not reached with the budget that the test gives.
CELLS = [
    Cell('nas-fpn', state, steps=5, seed=11, tuned=1e-3)
    for state in ('frozen', 'finetuned')
]


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*options):
        monkeypatch.setattr(sys, 'argv', ['mmfrozen reproduce', *options])
        return reproduce.main()

    return run


@pytest.fixture
def few_steps(monkeypatch, tmp_path, mini_lvis):
    """Two runs of five steps on a few images."""
    for module in (reproduce, record):
        monkeypatch.setattr(module, 'all_cells', lambda *_: CELLS)
    options = (
        'default_hooks.logger.interval=1',
        'train_dataloader.batch_size=1',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'model.test_cfg.rpn.max_per_img=10',
        'model.test_cfg.rcnn.score_thr=0',
        'model.test_cfg.rcnn.max_per_img=10',
    )
    short = replace(VARIANTS['nas-fpn'], options=options, minutes=(70, 4200))
    monkeypatch.setitem(VARIANTS, 'nas-fpn', short)
    export_lite0(tmp_path / 'data/weights')
    (tmp_path / 'data/mini_lvis').symlink_to(mini_lvis)


def kill_after_a_step(work_dir):
    """Ask this process to end when a step was logged."""

    def wait_and_kill():
        while not any(work_dir.glob('*/vis_data/scalars.json')):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_and_kill, daemon=True).start()


@pytest.mark.usefixtures('few_steps')
def test_killed_run_goes_on_and_is_recorded_once(main, tmp_path, capfd):
    work_dir = tmp_path / 'work_dirs/claims' / CELLS[0].name
    kill_after_a_step(work_dir)
    assert main('--budget', '0.5') == 128 + signal.SIGTERM
    shown = capfd.readouterr().err
    assert f'1 of 2: {CELLS[0].name}; 0.00 h so far, about 1.0 h' in shown
    assert shown.endswith(
        'stopped by SIGTERM: run the same command to continue.\n'
    )
    assert list(work_dir.glob('iter_*.pth'))
    assert not list((tmp_path / 'docs').rglob('*.json'))

    assert main('--budget', '0.5') == 0
    assert 'The next run needs about 1.00 h' in capfd.readouterr().err
    [file] = (tmp_path / 'docs/results').iterdir()
    run = CLAIM_RUN.read(file)
    assert (run.cell, run.config) == (
        CELLS[0].name,
        'frozen/mask_rcnn_lite0_mini-lvis',
    )
    assert (run.rate, run.seed, run.drift) == (1e-3, 11, 0.0)
    assert run.best_step in (4, 5) and 'box AP' in run.last
    assert run.kept_bytes < run.peak_bytes and run.flops > 1e9
    assert sum(b.num for b in run.bins) > 0
    assert not list(work_dir.glob('*.pth'))
    starts = sorted(work_dir.glob('*/vis_data/scalars.json'))
    assert len(starts) == 2
    assert '"step": 1,' not in starts[1].read_text()

    before = file.stat().st_mtime_ns
    assert main('--budget', '0.5') == 0
    assert main('--list') == 0
    shown = capfd.readouterr().out
    assert '1 of 2 runs are recorded; about 1.0 h left' in shown
    assert file.stat().st_mtime_ns == before


@pytest.mark.usefixtures('few_steps')
def test_steps_of_a_pair_are_timed_in_turn_and_recorded_once(
    main, monkeypatch, tmp_path
):
    pair = [Cell('nas-fpn', state) for state in PAIR]
    rates = dict.fromkeys(PAIR, 1e-3)
    for module in (reproduce, record):
        monkeypatch.setattr(module, 'all_cells', lambda *_: pair)
        monkeypatch.setattr(module, 'choose_rates', lambda _: rates)
    monkeypatch.setattr(reproduce, 'NUM_PAIRS', 2)
    results = tmp_path / 'docs/results'
    results.mkdir(parents=True)
    for cell in pair:
        CLAIM_RUN.write(record_file(results, cell), make(cell, rate=1e-3))
    assert main() == 0
    file = steps_file(results, 'nas-fpn')
    times = STEPS_IN_TURN.read(file)
    assert times.ratio.num == 2 and times.images == 1
    assert min(times.run.lower, times.control.lower) > 0
    assert len(list(results.iterdir())) == 3
    before = file.stat().st_mtime_ns
    assert main() == 0 and file.stat().st_mtime_ns == before


def test_work_dir_is_of_a_rate_and_a_twin_of_the_same_seed(
    monkeypatch, tmp_path
):
    for cell, run in tuning().items():
        CLAIM_RUN.write(record.record_file(tmp_path, cell), run)
    words = ('--records', str(tmp_path), '--out', str(tmp_path / 'out'))
    monkeypatch.setattr(sys, 'argv', ['mmfrozen reproduce', *words])
    runs = reproduce.Reproduction(reproduce.parse_args())
    frozen, control = (
        Cell('fpn', state, seed=2) for state in ('frozen', 'finetuned')
    )
    folder = runs._work_dir(frozen)
    assert folder == tmp_path / 'out/fpn_frozen_350_seed2_rate0.001'
    assert runs._work_dir(control).name.endswith('_rate0.0005')
    assert runs._twin(control) is None
    folder.mkdir(parents=True)
    (folder / '.trained').touch()
    assert runs._twin(control) == folder
    assert runs._twin(frozen) is None


def test_what_another_process_trains_is_left_to_it_until_it_ends(
    main, monkeypatch, tmp_path
):
    runs = tuning()
    cells = list(runs)[:3]
    trained = []
    file = tmp_path / f'work_dirs/claims/.{cells[0].pair}.lock'
    file.parent.mkdir(parents=True)
    file.touch()
    other = contextlib.ExitStack()
    other.enter_context(locked(file))

    def train(self, cell):
        trained.append(cell)
        if len(trained) == 2:
            other.close()  # it died, without a record
        CLAIM_RUN.write(
            record.record_file(self.args.records, cell), runs[cell]
        )
        return runs[cell]

    for module in (reproduce, record):
        monkeypatch.setattr(module, 'all_cells', lambda *_: cells)
    monkeypatch.setattr(reproduce.Reproduction, '_train', train)
    monkeypatch.setattr(reproduce, 'check_data', lambda: None)
    monkeypatch.setattr(reproduce, 'WAIT', 0.01)
    assert main() == 0
    assert trained == [cells[1], cells[2], cells[0]]


def test_pair_is_trained_by_one_process_once_its_rates_are_known(
    monkeypatch, tmp_path
):
    words = ('--claim', '1', '--records', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['mmfrozen reproduce', *words])
    runs = reproduce.Reproduction(reproduce.parse_args())
    assert [len(pair) for pair in runs._pairs()] == [1] * 9
    runs.records = tuning()
    pairs = runs._pairs()
    assert sorted(map(len, pairs)) == [2] * 6 + [3] * 3
    for pair in pairs:
        assert len({replace(cell, state='frozen') for cell in pair}) == 1


def test_frozen_run_is_repeated_where_the_pair_lacks_its_work_dir(
    monkeypatch, tmp_path
):
    words = ('--claim', '1', '--out', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['mmfrozen reproduce', *words])
    runs = reproduce.Reproduction(reproduce.parse_args())
    frozen, finetuned = (Cell('fpn', state) for state in PAIR)
    runs.records = tuning()
    runs.records[frozen] = run = next(iter(runs.records.values()))
    assert frozen in runs.left

    folder = runs._work_dir(frozen)
    folder.mkdir()
    (folder / '.trained').touch()
    assert frozen not in runs.left

    (folder / '.trained').unlink()
    runs.records[finetuned] = run
    assert frozen not in runs.left


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--claim', '8'), 'invalid choice: 8'),
        (('--budget', '0'), '--budget must be above 0, got 0.'),
        (('--list', '--report'), 'not allowed with argument'),
    ],
)
def test_options_that_do_not_go_are_refused_in_one_line(
    main, capsys, options, words
):
    with pytest.raises(SystemExit) as error:
        main(*options)
    assert error.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_nothing_is_trained_without_data_or_a_place_for_results(
    main, capsys, tmp_path
):
    assert main('--claim', '1') == 2
    line = capsys.readouterr().err
    assert line.startswith('error: data/mini_lvis must hold mini-LVIS, got')
    assert line.count('\n') == 1
    assert main('--report') == 2
    assert capsys.readouterr().err.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_file_that_is_no_record_is_named(main, capsys, tmp_path):
    file = tmp_path / 'docs/results/nas-fpn_frozen_350_seed1.json'
    file.parent.mkdir(parents=True)
    file.write_text('{"cell": 3}')
    assert main('--list') == 2
    line = capsys.readouterr().err
    assert file.name in line and 'what mmfrozen reproduce writes' in line
    assert line.count('\n') == 1
