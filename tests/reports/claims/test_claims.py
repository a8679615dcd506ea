"""Cells, rates, verdicts and the document of the paper's claims."""

import functools
import re
from dataclasses import replace
from unittest import mock

import pytest
from mmengine.config import utils

from mmfrozen.config_path import find
from mmfrozen.cost import Flops
from mmfrozen.reports.claims import document, record
from mmfrozen.reports.claims.cells import (
    CLAIMS,
    RATES,
    SEEDS,
    VARIANTS,
    Cell,
    all_cells,
    cells_of,
    tuning_cells,
)
from mmfrozen.reports.claims.findings import QUESTIONS, answer
from mmfrozen.reports.claims.record import (
    CLAIM_RUN,
    choose_rates,
    read_records,
    record_file,
)
from mmfrozen.run_files import STEPS_IN_TURN
from mmfrozen.tracing.traced_step import ComponentCost, TracedStep
from mmfrozen_cli.pair import load
from tests.tiny import ROOT

from ..pair.test_pair import TIMES
from ..pair.test_pair import write as write_work_dir
from ..runs.work_dirs import COST, drift, evaluation, step, write_run
from .records import CHOSEN, make, pairs, tuning

FPN = next(q for q in QUESTIONS if q.text.startswith('with FPN'))


def write(folder, records):
    for cell, run in records.items():
        CLAIM_RUN.write(record_file(folder, cell), run)


def test_each_cell_is_run_once_and_a_pair_side_by_side():
    cells = all_cells()
    assert len({cell.name for cell in cells}) == len(cells) == 81
    assert cells[:9] == tuning_cells()
    for claim in CLAIMS:
        order = cells_of(claim)
        for cell in order:
            if cell.state == 'finetuned':
                twin = order[order.index(cell) - 1]
                assert twin == replace(cell, state='frozen')
    assert {cell.seed for cell in cells_of(3)} == set(SEEDS)


def test_every_question_is_answered_by_runs_of_its_claim():
    for question in QUESTIONS:
        groups = {
            (variant, state, steps)
            for variant, steps, states in CLAIMS[question.claim].groups
            for state in states
        }
        asked = {(t.variant, t.state, t.steps) for t in question.terms}
        assert asked <= groups
        assert sum(term.sign for term in question.terms) == 0
    assert {question.claim for question in QUESTIONS} == set(CLAIMS)


@pytest.fixture(scope='module')
def _read_once():
    """For every ``mmdet::`` base mmengine reads 100 metafiles anew."""
    with mock.patch.object(utils, 'load', functools.cache(utils.load)):
        yield


@pytest.mark.usefixtures('_read_once')
@pytest.mark.parametrize('name', VARIANTS)
def test_options_of_a_variant_are_those_of_its_config(name):
    for state in ('frozen', 'finetuned'):
        options = Cell(name, state, 350, 2).options(5e-4)
        cfg = load(find(f'{state}/{VARIANTS[name].config}.py'), options)
        assert (cfg.randomness.seed, cfg.optim_wrapper.optimizer.lr) == (
            2,
            5e-4,
        )
        assert (cfg.train_cfg.val_begin, cfg.train_cfg.val_interval) == (
            280,
            70,
        )
        inner = cfg.model.backbone.backbone
        assert inner.init_cfg.checkpoint.endswith(VARIANTS[name].weights)
        assert VARIANTS[name].weights.startswith(inner.model_name)


def test_rate_of_a_state_is_the_best_one_once_all_were_tried():
    records = tuning()
    assert choose_rates(records) == CHOSEN
    del records[tuning_cells()[0]]
    assert choose_rates(records) == {
        state: CHOSEN[state] for state in ('finetuned', 'scratch')
    }


@pytest.mark.parametrize(
    ('gaps', 'images', 'verdict'),
    [
        ((), None, 'not run'),
        ((-0.03,), (-0.05, -0.01), '1 of 3 seeds'),
        ((-0.03, -0.03), (-0.05, -0.01), '2 of 3 seeds'),
        ((-0.03, -0.031, -0.032), (-0.05, -0.01), 'holds'),
        ((-0.03, -0.031, -0.032), (-0.05, 0.01), 'cannot say'),
        ((-0.03, -0.031, -0.032), None, 'cannot say'),
        ((-0.03, -0.001, 0.02), (-0.05, -0.01), 'cannot say'),
        ((0.03, 0.031, 0.032), (0.01, 0.05), 'does not hold'),
    ],
)
def test_verdict_needs_three_seeds_and_both_intervals(gaps, images, verdict):
    records = pairs('fpn', gaps, images)
    assert answer(FPN, records).verdict == verdict


def test_difference_is_paired_by_seed_and_costs_are_ratios():
    records = pairs('fpn', (-0.03, -0.02, -0.01))
    finding = answer(FPN, records)
    assert finding.gain.gain == pytest.approx(-0.02)
    half = 4.3027 * 0.01 / 3**0.5
    assert finding.gain.low == pytest.approx(-0.02 - half, abs=1e-5)
    flops = next(q for q in QUESTIONS if q.text == 'less FLOPs, fpn')
    finding = answer(flops, records)
    assert finding.gain.gain == pytest.approx(-0.28768, abs=1e-5)
    assert finding.verdict == 'holds'


def test_interval_over_images_is_frozen_less_fine_tuned(tmp_path):
    dirs = [tmp_path / state / 'x' for state in ('frozen', 'finetuned')]
    for folder, share in zip(dirs, (0.95, 0.5), strict=True):
        write_work_dir(folder, 10, share, seed=1)
    [gain] = record._over_images(*dirs)
    assert gain.name == 'box AP'
    assert 0 < gain.low < gain.value < gain.high


TRACED = TracedStep(
    [ComponentCost('neck', Flops(3, 2, 1), saved_bytes=7)],
    *(0, 0, 0, 9, 'backward', {}, [], {}, {}, 0, {}, {}, None),
)


@pytest.mark.parametrize(
    ('aps', 'last', 'best'),
    [((0.2, 0.1), 0.1, 0.2), ((float('nan'), float('nan')), 0.0, 0.0)],
)
def test_record_has_last_and_best_evaluation_and_0_where_nothing_was_found(
    tmp_path, aps, last, best
):
    lines = [step(280), evaluation(280, aps[0]), step(350)]
    work_dir = write_run(
        tmp_path / 'finetuned/x',
        [*lines, evaluation(350, aps[1])],
        state='finetuned',
        costs=[COST],
        drifts=[drift(350, 0.5)],
    )
    cell = Cell('fpn', 'finetuned')
    run = record.make_record(
        cell, 'finetuned/x', 1e-3, work_dir, None, lambda: TRACED
    )
    assert (run.last['box AP'], run.best['box AP']) == (last, best)
    assert run.best_step == 280
    assert (run.drift, run.step_seconds, run.train_seconds) == (0.5, 0.4, 700)
    assert (run.flops, run.kept_bytes, run.peak_bytes) == (6, 7, 9)
    assert (run.options, run.rate) == (cell.options(1e-3), 1e-3)


def test_run_without_an_evaluation_is_not_recorded(tmp_path):
    work_dir = write_run(tmp_path, [step(350)], state='frozen', costs=[COST])
    with pytest.raises(ValueError, match='an evaluation: no AP yet'):
        record.make_record(
            Cell('fpn', 'frozen'), '', 1e-3, work_dir, None, lambda: TRACED
        )


def test_run_without_logged_steps_is_not_recorded(tmp_path):
    work_dir = write_run(
        tmp_path,
        [evaluation(350, 0.1)],
        state='frozen',
        costs=[COST],
        drifts=[drift(350, 0.0)],
    )
    with pytest.raises(ValueError, match='got one without logged steps'):
        record.make_record(
            Cell('fpn', 'frozen'), '', 1e-3, work_dir, None, lambda: TRACED
        )


def test_record_of_another_rate_is_refused(tmp_path):
    cell = Cell('fpn', 'frozen')
    write(tmp_path, {**tuning(), cell: make(cell, rate=RATES[0])})
    with pytest.raises(ValueError, match='of the rate .* 0.001, got 0.0005'):
        read_records(tmp_path)


def test_document_has_what_the_records_say_and_keeps_its_text(tmp_path):
    records = {**tuning(), **pairs('nas-fpn', (0.02, 0.03))}
    folder = tmp_path / 'results'
    write(folder, records)
    STEPS_IN_TURN.write(record.steps_file(folder, 'fpn'), TIMES)
    page = tmp_path / 'results.md'
    page.write_text(f'before\n{document.BEGIN}\n{document.END}\nafter\n')
    document.write_document(page, folder, read_records(folder))
    text = page.read_text()
    assert text.startswith('before\n') and text.endswith('after\n')
    assert '| frozen | 10.0 | 20.0 | 15.0 | 0.001 |' in text
    assert '| `nas-fpn` | frozen | 350 | 2 | 12.5 ± 0.7 |' in text
    assert '| `fpn` | frozen | 350 | 0 | not run |' in text
    assert '| 1-9 | 40 | 12.5 ± 0.7 | 10.0 ± 0.0 | +2.5 |' in text
    assert '| `nas-fpn` | frozen | 50% | 30.0 | 256 | 512 | 1.00 |' in text
    assert '| 2 of 3 seeds |' in text
    assert '| `fpn` | 0.60 | 0.90 | 0.65 (0.60 to 0.70) | 12, 2 |' in text
    assert '| `nas-fpn` | not run | - | - | - |' in text
    for name in re.findall(r'\(results/(\w+)\.png\)', text):
        assert (folder / f'{name}.png').stat().st_size > 1000
    assert text.count('.png') == 3
    document.write_document(page, folder, read_records(folder))
    assert page.read_text() == text


def test_document_without_a_place_is_left_alone(tmp_path):
    page = tmp_path / 'results.md'
    page.write_text('mine')
    with pytest.raises(ValueError, match='must have the lines'):
        document.write_document(page, tmp_path / 'results', {})
    assert page.read_text() == 'mine'


def test_results_of_the_repository_are_those_of_its_records():
    folder = ROOT / 'docs/results'
    text = (ROOT / 'docs/results.md').read_text()
    records = read_records(folder)
    pictures = {
        name: caption
        for name, (_, caption) in document.draw_charts(records).items()
    }
    times = record.read_times(folder)
    generated = document.generate(records, times, pictures, folder.name)
    assert f'{document.BEGIN}\n\n{generated}\n{document.END}' in text, (
        'run python tools/reproduce.py --report'
    )
    for name in pictures:
        assert (folder / f'{name}.png').is_file()
