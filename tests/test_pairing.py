"""Which configs and work dirs belong together."""

from pathlib import Path

import pytest

from mmfrozen.pairing import config_in_state, state_of_folder
from mmfrozen.reports.runs.comparison import find_pairs, read_runs
from mmfrozen.reports.runs.identify_run import find_state
from tests.reports.runs.work_dirs import evaluation, step, write_run


def test_control_has_the_name_of_its_experiment():
    path = Path('configs/frozen/mine.py')
    control = config_in_state(path, 'finetuned')
    assert control == Path('configs/finetuned/mine.py')
    assert config_in_state(control, 'frozen') == path


@pytest.mark.parametrize(
    ('path', 'state'),
    [('work_dirs/thawed/x', 'thawed'), ('scratch/x.py', 'scratch'),
     ('work_dirs/mine', None)],
)  # fmt: skip
def test_state_is_that_of_the_folder(path, state):
    assert state_of_folder(Path(path)) == state


@pytest.mark.parametrize('recorded', ['finetuned', 'thawed'])
def test_second_phase_is_no_control(tmp_path, recorded):
    """Earlier releases recorded it as fine-tuned."""
    frozen, thawed = tmp_path / 'frozen/mine', tmp_path / 'thawed/mine'
    log = [step(1), evaluation(1, 0.1)]
    write_run(frozen, log, state='frozen')
    write_run(thawed, log, state=recorded)
    assert find_state(thawed) == 'thawed'
    assert find_pairs(read_runs([frozen, thawed])) == []


def test_record_of_a_frozen_run_holds_in_any_folder(tmp_path):
    run = tmp_path / 'thawed/mine'
    write_run(run, [step(1), evaluation(1, 0.1)], state='frozen')
    assert find_state(run) == 'frozen'
