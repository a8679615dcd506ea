"""Runs side by side: pairs, tables, charts, and what is wrong with input."""

import json
import sys
from dataclasses import replace

import pytest

from mmfrozen.reports.runs.charts import draw_costs, draw_learning
from mmfrozen.reports.runs.comparison import find_pairs, read_runs
from mmfrozen.reports.runs.drift_charts import draw_drift, draw_parts
from mmfrozen.run_files import STRATA, Evaluation, StrataRecord
from mmfrozen_cli import compare

from .work_dirs import COST, HALF, drift, evaluation, step, write_run

NAME = 'mask_rcnn_r101_lvis'


def lines(ap, epochs=3):
    """The log of a run of 10 steps an epoch."""
    found = []
    for epoch in range(1, epochs + 1):
        found += [
            step(10 * epoch - 5, loss=2.0 / epoch, epoch=epoch),
            step(10 * epoch, loss=1.9 / epoch, epoch=epoch),
            evaluation(epoch, ap * epoch, **{'lvis/segm_APr': ap * epoch / 2}),
        ]
    return found


def make(folder, state, ap=0.1, cost=COST, name=NAME, **more):
    return write_run(
        folder / state / name,
        lines(ap),
        state=state,
        costs=[cost] if cost else [],
        drifts=[drift(5, 0.0), drift(30, 0.0 if state == 'frozen' else 0.2)],
        config=name,
        **more,
    )


@pytest.fixture
def runs(tmp_path):
    return [
        make(tmp_path, 'frozen', 0.12, HALF),
        make(tmp_path, 'finetuned'),
        make(tmp_path, 'scratch', 0.05),
    ]


@pytest.fixture
def tool(monkeypatch, capsys):
    """Calls the tool; returns exit status, stdout and stderr."""

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['compare_runs.py', *map(str, args)])
        status = compare.main()
        return (status, *capsys.readouterr())

    return call


def pairs_of(paths):
    return {
        (pair.run.label, pair.control.label)
        for pair in find_pairs(read_runs(paths))
    }


def test_frozen_run_is_paired_with_each_control_of_its_experiment(runs):
    assert pairs_of(runs) == {('frozen', 'finetuned'), ('frozen', 'scratch')}


def test_experiments_are_not_mixed(tmp_path, runs):
    other = make(tmp_path, 'finetuned', name='retinanet_r50_coco')
    named = pairs_of([runs[0], other])
    assert named == set()
    assert len(pairs_of([*runs, other])) == 2


def test_pairs_are_of_the_same_seed_where_there_is_one(tmp_path):
    paths = [
        make(tmp_path / str(seed), state, cost=replace(COST, seed=seed))
        for seed in (1, 2)
        for state in ('frozen', 'finetuned')
    ]
    for run, control in pairs_of(paths):
        assert (
            run.split('(')[1].split('/')[0]
            == (control.split('(')[1].split('/')[0])
        )
    assert len(pairs_of(paths)) == 2


def over_three_seeds(folder, gains):
    """Frozen and fine-tuned runs whose AP differs by gains, in points."""
    return [
        make(
            folder / str(seed),
            state,
            ap=(0.1 + 0.02 * seed + (gain / 100 if state == 'frozen' else 0))
            / 3,
            cost=replace(COST, seed=seed),
        )
        for seed, gain in enumerate(gains)
        for state in ('frozen', 'finetuned')
    ]


def test_seeds_are_averaged_in_pairs(tmp_path, tool):
    """The paired interval is Student's, and narrower than the spread."""
    paths = over_three_seeds(tmp_path, (1.0, 1.2, 1.4))
    record = json.loads(tool(*paths, '--json')[1])
    (summary,) = record['seeds']
    assert summary['seeds'] == [0, 1, 2]
    gain = summary['gains']['box AP']
    assert gain['gain'] == pytest.approx(0.012)
    half = 4.302653 * 0.002 / 3**0.5
    assert gain['high'] - gain['gain'] == pytest.approx(half, rel=1e-5)
    assert gain['control_spread'] == pytest.approx(0.02)
    status, out, _ = tool(*paths)
    assert status == 0 and 'seeds 0, 1, 2: AP' in out
    assert '+1.2 [+0.7, +1.7]' in out
    assert 'a difference in box AP' in ' '.join(record['notes'])


@pytest.mark.parametrize('gains', [(1.0, -1.0, 0.9), (0.2, 0.2, 0.21)])
def test_what_varies_with_the_seed_is_not_taken_for_shown(
    tmp_path, tool, gains
):
    paths = over_three_seeds(tmp_path, gains)
    notes = json.loads(tool(*paths, '--json')[1])['notes']
    assert '3 seeds: no difference shown' in notes[-1]


def test_one_seed_and_seeds_that_repeat_are_not_averaged(tmp_path, runs, tool):
    assert json.loads(tool(*runs, '--json')[1])['seeds'] == []
    paths = over_three_seeds(tmp_path / 'a', (1, 1))
    paths += over_three_seeds(tmp_path / 'b', (1, 1))
    assert json.loads(tool(*paths, '--json')[1])['seeds'] == []


def test_state_is_told_by_names_where_no_hook_wrote_it(tmp_path):
    mine = write_run(tmp_path / 'x', lines(0.1), config='x')
    control = write_run(
        tmp_path / 'x_finetuned', lines(0.1), config='x_finetuned'
    )
    other = write_run(tmp_path / 'frozen/x', lines(0.1), config='x')
    states = [run.state for run in read_runs([mine, control, other])]
    assert states == ['unknown', 'finetuned', 'frozen']
    assert pairs_of([other, control]) == {('frozen', 'finetuned')}


def test_labels_differ(tmp_path):
    paths = [
        make(tmp_path / parent, state, name=name)
        for parent in ('a', 'b')
        for state in ('frozen', 'finetuned')
        for name in (NAME, 'other')
    ]
    labels = [run.label for run in read_runs(paths)]
    assert len(set(labels)) == 8


def test_tables_hold_aps_costs_gains_and_ratios(runs, tool):
    status, out, err = tool(*runs)
    assert status == 0 and err == ''
    rows = [line.split() for line in out.splitlines()]
    assert ['frozen', '36.0', '18.0', '30'] in rows
    assert ['frozen', '-', 'finetuned', '+6.0', '+3.0', '-'] in rows
    assert ['frozen', '77.00', '1.00', '0.2', '-', '0.00', '0'] in rows
    ratios = ['x', '1.00', 'x', '0.50', 'x', '0.50', '-', '-', '-']
    assert ['frozen', '/', 'scratch', *ratios] in rows
    assert '2 FLOPs' in out


def test_page_and_pictures_are_whole_and_never_overwritten(
    runs, tool, tmp_path
):
    html, png = tmp_path / 'new/a.html', tmp_path / 'png'
    status, _, err = tool(*runs, '--html', html, '--png', png)
    assert status == 0 and 'wrote' in err
    text = html.read_text()
    assert text.count('<svg') == 4 and '<link' not in text
    assert 'http' not in text.replace('http://www.w3.org', '').replace(
        'https://matplotlib.org', ''
    ).replace('http://purl.org', '').replace('http://creativecommons.org', '')
    names = {path.name for path in png.iterdir()}
    assert names == {'costs.png', 'learning.png', 'drift.png', 'parts.png'}
    for option, path in (('--html', html), ('--png', png)):
        status, out, err = tool(*runs, option, path)
        assert status == 2 and out == '' and option in err


def test_json_holds_curves_and_comparisons_but_no_nan(runs, tool):
    log = next(runs[0].rglob('scalars.json'))
    log.write_text(log.read_text() + json.dumps(step(31, loss=float('nan'))))
    status, out, _ = tool(*runs, '--json')
    found = json.loads(out, parse_constant=pytest.fail)
    assert status == 0
    assert found['runs'][0]['evaluations'][0]['iter'] == 10
    assert found['pairs'][0]['gains']['box AP'] == pytest.approx(0.06)
    assert found['runs'][1]['drift'] == 0.2


def test_stock_run_alone_is_shown_with_what_it_lacks(tmp_path, tool):
    run = write_run(tmp_path / 'stock', [step(5), step(10)])
    status, out, err = tool(run, '--html', tmp_path / 'a.html')
    assert status == 0 and err.count('note: ') == 4
    assert 'StepCostHook' in err and 'no AP yet' in err
    assert (tmp_path / 'a.html').read_text().count('<svg') == 1
    assert ['stock', '2'] in [line.split() for line in out.splitlines()]


def test_run_that_is_behind_is_said_to_be(runs, tmp_path, tool):
    late = write_run(
        tmp_path / 'late', lines(0.1, epochs=1), state='finetuned', config=NAME
    )
    _, _, err = tool(runs[0], late)
    assert 'evaluated after less training' in err


def test_pair_by_hand_replaces_the_rule(runs, tool):
    _, out, _ = tool(*runs, '--pair', runs[2], runs[1])
    assert 'scratch - finetuned' in out and 'frozen -' not in out
    status, _, err = tool(runs[0], '--pair', runs[0], runs[1])
    assert status == 2 and '--pair must name two of the runs' in err


def test_runs_without_a_pair_are_named(tmp_path, runs, tool):
    other = make(tmp_path, 'frozen', name='other')
    _, _, err = tool(*runs, other)
    assert 'no pair for other, frozen' in err and '--pair' in err


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('step_cost.json', '[{]'),
        ('drift.json', '{"a": 1}'),
        ('backbone.json', 'nothing'),
        ('20260100_000000/vis_data/scalars.json', 'x\n{}\n'),
    ],
)
def test_file_that_cannot_be_read_is_named_in_one_line(file, text, runs, tool):
    (runs[1] / file).write_text(text)
    status, out, err = tool(*runs)
    assert (status, out, err.count('\n')) == (2, '', 1)
    assert err.startswith('error: ') and file in err


@pytest.mark.parametrize('folder', ['.', 'b'])
@pytest.mark.parametrize(
    ('setting', 'words'),
    [
        (dict(max_dets=300), 'max_dets 100 in .* and 300'),
        (dict(annotations='f'), r'annotations \(digest\) 0 in .* and f'),
        (dict(settings=dict(dets_per_class=9)), 'dets_per_class 8 in .* 9'),
    ],
)
def test_runs_that_were_evaluated_otherwise_are_refused(
    folder, setting, words, runs
):
    for path, changed in zip(runs[:2], ({}, setting), strict=True):
        values = dict(max_dets=100, annotations='0') | changed
        settings = values.pop('settings', dict(dets_per_class=8))
        record = StrataRecord('bbox', 'lvis', 1, 1, 1, None, 0, 0.9, [])
        record = replace(record, **values)
        (path / folder).mkdir(exist_ok=True)
        STRATA.write(path / folder, Evaluation(1, 'x', {}, [record], settings))
    with pytest.raises(ValueError, match=words):
        read_runs(runs)


def test_folder_without_logs_and_run_named_twice_are_refused(
    runs, tool, tmp_path
):
    for args, said in (
        ((runs[0], tmp_path), 'must hold'),
        ((tmp_path / 'nowhere',), 'nowhere'),
        ((runs[0], runs[1], runs[0]), 'twice'),
    ):
        status, out, err = tool(*args)
        assert (status, out, err.count('\n')) == (2, '', 1)
        assert said in err


def test_charts_show_what_there_is(tmp_path):
    full, bare = read_runs(
        [
            make(tmp_path, 'frozen'),
            write_run(tmp_path / 'bare', [evaluation(0, 0.2)]),
        ]
    )
    assert draw_costs([bare], []) is None
    assert draw_learning([bare]) is None
    assert draw_drift([bare]) is draw_parts([bare]) is None
    both = [full, bare]
    costs = draw_costs(both, [])
    assert [axes.get_xlabel() for axes in costs.axes[-4:]] == [
        'FLOPs of a step',
        'peak memory, GiB',
        'time of a step, s',
        'energy of a step, J',
    ]
    assert draw_learning(both) and draw_drift(both) and draw_parts(both)


def test_cost_within_noise_has_no_arrow(tmp_path):
    memory = replace(
        COST.memory, cuda_allocated_peak_bytes=2**31 + 2**24
    )  # 0.8 % more
    runs = read_runs(
        [
            make(tmp_path, 'frozen', 0.12, replace(COST, memory=memory)),
            make(tmp_path, 'finetuned'),
        ]
    )
    chart = draw_costs(runs, find_pairs(runs))
    panels = {axes.get_xlabel(): axes for axes in chart.axes}
    assert 'peak memory, GiB' in panels
    assert not panels['peak memory, GiB'].texts


def test_one_evaluation_makes_no_learning_curve_of_ap(tmp_path):
    log = [step(n, 1 / n) for n in range(1, 30)]
    path = write_run(tmp_path / 'frozen', [*log, evaluation(29, 0.1)])
    chart = draw_learning(read_runs([path]))
    labels = {axes.get_ylabel() for axes in chart.axes}
    assert 'loss' in labels and 'box AP, %' not in labels


def test_arrow_leads_from_control_to_frozen(runs):
    found = read_runs(runs)
    chart = draw_costs(found, find_pairs(found))
    arrows = [
        text for text in chart.axes[2].texts if text.arrow_patch is not None
    ]
    begins = sorted(round(a.xyann[1]) for a in arrows)
    assert begins == [15, 30] and all(a.xyann[0] == 0.4 for a in arrows)
    assert all(a.xy == (0.2, pytest.approx(36)) for a in arrows)


def test_markdown_is_the_printed_table_for_a_readme(tmp_path, tool):
    paths = over_three_seeds(tmp_path, (1.0, 1.2, 1.4))
    status, out, _ = tool(*paths, '--markdown')
    [row] = [x for x in out.splitlines() if x.startswith('| box AP |')]
    assert status == 0 and row.count('|') == 5
    assert '+1.2 [+0.7, +1.7]' in row and '\N{PLUS-MINUS SIGN} 2.0' in row
    head = out.splitlines()[out.splitlines().index(row) - 2]
    assert head == '|  | frozen | finetuned | difference [95%] |'
