"""Costs of two runs side by side."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from mmfrozen.reports.runs.costs import (
    compare,
    compare_work_dirs,
    comparison_table,
)
from mmfrozen.reports.runs.step_costs import choose, read_step_costs

from .work_dirs import COST, HALF, evaluation, step, write_run


def pair(folder, run=(HALF,), control=(COST,)):
    lines = [step(1), evaluation(1, 0.1)]
    return (
        write_run(folder / 'run', lines, state='frozen', costs=run),
        write_run(folder / 'control', lines, state='finetuned', costs=control),
    )


def rows(comparison):
    return {row.name: row for row in comparison.rows}


def test_record_is_read_as_it_was_written(tmp_path):
    write_run(tmp_path, [step(1)], costs=[COST, HALF])
    assert read_step_costs(tmp_path) == [COST, HALF]


def test_longest_start_is_chosen_and_the_later_of_equals():
    short = replace(COST, num_steps=3)
    assert choose([short, COST, short]) is COST
    assert choose([COST, HALF]) is HALF
    assert choose([]) is None


def test_ratios_are_run_over_control(tmp_path):
    found = compare_work_dirs(*pair(tmp_path))
    table = rows(found)
    assert table['FLOPs of a step'].ratio == 1
    assert table['FLOPs of a step'].run == 77
    assert table['backward for weights'].control == 11
    assert table['time of a step'].ratio == pytest.approx(0.5)
    assert table['CUDA allocated, peak'].ratio == 0.5
    assert table['trainable'].ratio == 0.5
    energy = table['energy of a step']
    assert (energy.run, energy.control, energy.ratio) == (None, 100, None)
    assert 'optimizer' not in table, 'neither has it'
    assert found.warnings == []


def test_other_conditions_are_named(tmp_path):
    other = replace(
        HALF,
        batch_shape=(4, 64, 96),
        device='another',
        versions={'torch': '2.1.2'},
        flops=replace(HALF.flops, batch_shape=(4, 64, 96)),
    )
    text = ' '.join(compare_work_dirs(*pair(tmp_path, [other])).warnings)
    for said in (
        'batch (N, H, W) differs',
        'device',
        'torch',
        'other batches',
    ):
        assert said in text


def test_stock_runs_are_compared_by_what_mmdetection_logs(tmp_path):
    found = compare_work_dirs(*pair(tmp_path, (), (COST,)))
    assert rows(found)['time of a step, as logged'].run == 2
    assert rows(found)['FLOPs of a step'].run is None
    assert ['has no step_cost.json' in w for w in found.warnings] == [True]


def test_table_shows_units_and_ratios(tmp_path):
    console = Console(record=True, width=160)
    console.print(comparison_table(compare_work_dirs(*pair(tmp_path))))
    text = console.export_text()
    assert '2 FLOPs' in text
    lines = {
        line.split('│')[1].strip(): [c.strip() for c in line.split('│')[2:5]]
        for line in text.splitlines()
        if '│' in line
    }
    assert lines['time of a step'] == ['0.2 s', '0.4 s', 'x 0.50']
    assert lines['CUDA allocated, peak'] == ['1.00 GiB', '2.00 GiB', 'x 0.50']
    assert lines['energy of a step'] == ['-', '100 J', '-']


def test_nothing_measured_gives_no_rows():
    assert compare(None, None) == []


def test_same_run_twice_is_refused(tmp_path):
    run, _ = pair(tmp_path)
    with pytest.raises(ValueError, match='twice'):
        compare_work_dirs(run, tmp_path / 'control/../run')


@pytest.mark.parametrize(
    'text',
    [
        json.dumps([{'seconds': {}}]),
        '{',
        '[{}]',
        '[1]',
        '{"a": 1}',
        '[{"seconds": 3}]',
        '7',
    ],
)
def test_broken_record_is_one_line_that_names_the_file(text, tmp_path):
    run, control = pair(tmp_path)
    (run / 'step_cost.json').write_text(text)
    with pytest.raises(ValueError, match='step_cost.json must be') as caught:
        compare_work_dirs(run, control)
    assert '\n' not in str(caught.value)


def test_record_survives_json(tmp_path):
    from dataclasses import asdict

    found = compare_work_dirs(*pair(tmp_path))
    assert json.loads(json.dumps(asdict(found)))['rows'][0]['unit'] == 'FLOPs'
