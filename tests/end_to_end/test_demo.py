"""The commands of `make demo`, for a few steps on a few images."""

import subprocess
import sys

import pytest

from mmfrozen.reports.runs.work_dir import read_run
from mmfrozen.run_files import STEPS_IN_TURN
from tests.tiny import ROOT

CONFIG = ROOT / 'configs/frozen/mask_rcnn_lite0_mini-lvis.py'
STEPS = 4


def tool(name, *args, cwd):
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / name, *args],
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
    )


def train_pair(folder):
    return tool(
        'train_pair.py',
        str(CONFIG),
        *('--equal-time', '--engine', '--in-turn', '2'),
        '--cfg-options',
        f'train_cfg.max_iters={STEPS}',
        f'train_cfg.val_interval={STEPS}',
        'default_hooks.logger.interval=2',
        'val_dataloader.dataset.indices=8',
        cwd=folder,
    )


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    tool(
        'prepare_mini_lvis.py',
        *('--out', 'data/mini_lvis', '--num-train', '40', '--num-val', '8'),
        cwd=folder,
    )
    tool('export_lite0_weights.py', cwd=folder)
    return folder


def test_demo_trains_evaluates_times_and_prints_cost_before_ap(workspace):
    done = train_pair(workspace)
    table = done.stdout
    for row in ('box AP', 'box APr', 'mask APf', 'difference', 'trainable'):
        assert row in table
    assert table.index('time of a step') < table.index('equal steps')
    assert table.index('equal steps') < table.index('equal time')
    assert '4 of 4: ' in done.stderr and ' left' in done.stderr
    html, png = table.split()[-2:]
    assert (workspace / png).stat().st_size > 1000
    assert 'equal time' in (workspace / html).read_text()
    runs = {
        state: read_run(workspace / 'work_dirs' / state / CONFIG.stem)
        for state in ('frozen', 'finetuned')
    }
    for state, run in runs.items():
        assert run.step == STEPS and run.backbone.state == state
        assert 'lvis/bbox_APr' in run.metrics and run.step_seconds > 0
    assert runs['frozen'].backbone.verified_iter == STEPS
    trainable = [run.backbone.model.trainable for run in runs.values()]
    assert trainable[1] - trainable[0] == (
        runs['frozen'].backbone.backbone.total
    )


def test_equal_time_is_what_the_steps_in_turn_say(workspace):
    folder = workspace / f'work_dirs/pairs/{CONFIG.stem}-finetuned'
    times = STEPS_IN_TURN.read(folder)
    assert times.run.num == 2
    longer = folder / 'equal_time'
    steps = int(STEPS / times.ratio.median + 1e-6)
    if steps != STEPS:
        assert read_run(longer).step == steps
        assert read_run(longer).backbone.verified_iter == steps
    else:
        assert not longer.exists()


def test_run_that_broke_off_in_its_evaluation_is_evaluated_and_no_other(
    workspace,
):
    run = workspace / 'work_dirs/frozen' / CONFIG.stem
    before = read_run(run).metrics
    (run / '.trained').unlink()
    for log in run.rglob('scalars.json'):
        kept = [x for x in log.read_text().splitlines() if '_AP' not in x]
        log.write_text('\n'.join(kept))
    assert read_run(run).metrics == {}
    logs = set((workspace / 'work_dirs').rglob('scalars.json'))
    done = train_pair(workspace)
    assert read_run(run).metrics.keys() == before.keys()
    assert done.stderr.count('already trained') == 2
    assert 'box APr' in done.stdout
    others = set((workspace / 'work_dirs').rglob('scalars.json')) - logs
    assert all(log.is_relative_to(run) for log in others)
