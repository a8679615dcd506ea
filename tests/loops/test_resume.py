"""Runs that were killed end as those that were not."""

import json
import os
import subprocess
import sys

import pytest

from tests.loops.kill import CASES
from tests.tiny import ROOT


@pytest.fixture(scope='module')
def results(tmp_path_factory, mini_lvis):
    """What each case came to."""
    folder = tmp_path_factory.mktemp('killed')
    done = subprocess.run(
        [sys.executable, '-m', 'tests.loops.kill', folder, mini_lvis],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        name: json.loads((folder / f'{name}.json').read_text())
        for name in CASES
    }


@pytest.mark.parametrize('name', CASES)
def test_killed_run_ends_with_the_weights_of_one_that_was_not(name, results):
    found = results[name]
    assert found['status'] == 0
    assert len(found['kills']) > CASES[name]['kills'] // 2
    assert found['steps'][0] == found['steps'][1]
    for part in ('/state_dict/', '/optimizer/', '/message_hub/log_scalars/'):
        assert any(leaf.startswith(part) for leaf in found['compared'])
    assert found['differ'] == []


@pytest.mark.parametrize('name', CASES)
def test_killed_run_sees_the_samples_of_one_that_was_not(name, results):
    killed, whole = results[name]['orders']
    assert killed.keys() == whole.keys()
    assert len(whole) == results[name]['steps'][1] * CASES[name]['processes']
    for step, batches in whole.items():
        assert len(batches) == 1
        seen = killed[step]
        if name == 'drawn-seed':  # before a checkpoint it is drawn again
            seen = seen[-1:]
        assert all(batch == batches[0] for batch in seen), step


def test_kills_came_at_any_time(results):
    kills = [kill for found in results.values() for kill in found['kills']]
    assert len(results['detector']['kills']) >= 20
    assert {'start', 'step', 'writing'} == set(kills)


def test_records_in_the_work_dir_are_those_of_one_run(results):
    killed, whole = results['detector']['drifts']
    assert [record['iter'] for record in whole] == [*range(7, 64, 7), 64]
    assert killed == whole
    costs, (cost,) = results['detector']['costs']
    assert costs[-1]['end_iter'] == cost['end_iter'] == 64
