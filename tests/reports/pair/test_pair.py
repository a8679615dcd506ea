"""A pair's tables and page: cost, equal steps, equal time, in words."""

from dataclasses import replace

import pytest

from mmfrozen.atomic_write import WriteError
from mmfrozen.evaluation.match_detections import match
from mmfrozen.reports.pair.comparison import compare_pair
from mmfrozen.reports.pair.page import draw_pair, write_pair_page
from mmfrozen.reports.pair.tables import make_tables
from mmfrozen.run_files import Spread, StepsInTurn
from tests.test_atomic_write import files_of

from ..runs.work_dirs import COST, evaluation, step, write_run
from ..strata import strata_data

TIMES = StepsInTurn(
    run=Spread(0.5, 0.6, 0.7, 12),
    control=Spread(0.8, 0.9, 1.0, 12),
    ratio=Spread(0.6, 0.65, 0.7, 12),
    engine='oneDNN it is',
    images=4,
    threads=2,
    device='cpu',
    torch='2.14.1',
)


def write(folder, steps, share, seed, *, matches=True):
    """A work dir whose detector finds this share of the objects."""
    gt = strata_data.validation()
    found = match(
        gt,
        strata_data.detect(gt, share, seed),
        iou_type='bbox',
        protocol='coco',
    )
    write_run(
        folder,
        [step(steps), evaluation(steps, share)],
        costs=[replace(COST, seed=7)],
    )
    if matches:
        found.save(folder / 'matches.bbox.npz')
    return found


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """The run is like its control after equal steps, better after more."""
    root = tmp_path_factory.mktemp('pair')
    dirs = [root / x for x in ('frozen/x', 'finetuned/x', 'longer')]
    found = [
        write(folder, *options)
        for folder, options in zip(
            dirs, ((10, 0.6, 1), (10, 0.6, 2), (15, 0.95, 3)), strict=True
        )
    ]
    return compare_pair(*dirs, TIMES), found


def test_words_say_what_the_paired_interval_says(pair):
    comparison, (run, control, longer) = pair
    steps, time = comparison.budgets
    for budget, matches in ((steps, run), (time, longer)):
        [gain] = budget.gains
        ap, other = (m.ap_per_class() for m in (matches, control))
        assert gain.name == 'box AP'
        expected = (ap[:5] - other[:5]).mean()
        assert gain.gain.value == pytest.approx(expected)
        assert gain.gain.low < expected < gain.gain.high
    assert steps.gains[0].gain.low < 0 < steps.gains[0].gain.high
    assert steps.gains[0].verdict == 'no difference shown'
    assert time.gains[0].gain.low > 0
    assert time.gains[0].verdict == 'gain'
    swapped = replace(time.gains[0].gain, value=-0.2, low=-0.3, high=-0.1)
    assert replace(time.gains[0], gain=swapped).verdict == 'loss'


def test_cost_comes_first_and_times_are_those_of_steps_in_turn(pair):
    cost, steps, time = make_tables(pair[0])
    assert cost.rows[0][1:] == [
        '0.60 [0.50–0.70]',
        '0.90 [0.80–1.00]',
        'x 0.65 [0.60–0.70]',
    ]
    assert steps.title == 'AP in %, equal steps: 10 steps, 6 and 9 s'
    assert time.title == 'AP in %, equal time: 15 and 10 steps, 9 and 9 s'
    assert 'no difference shown' in steps.rows[0]


def test_picture_has_each_run_at_the_end_of_its_time_with_its_interval(pair):
    comparison, (run, _, _) = pair
    [axes] = draw_pair(comparison).axes
    lines = {c.get_label(): c for c in axes.containers}
    frozen, control = (lines[x][0] for x in ('frozen', 'finetuned'))
    assert list(frozen.get_xdata()) == pytest.approx([6, 9])
    assert list(control.get_xdata()) == pytest.approx([9])
    ap = 100 * run.ap_per_class()[:5].mean()
    assert frozen.get_ydata()[0] == pytest.approx(ap)
    [whisker, _] = lines['frozen'][2][0].get_segments()
    assert whisker[0][1] < ap < whisker[1][1]


def test_page_is_written_anew_and_says_what_it_does_not_show(pair, tmp_path):
    for _ in range(2):
        html, png = write_pair_page(tmp_path, pair[0])
    text = html.read_text()
    num = len(pair[1][0].image_ids)
    assert text.index('Cost of a training step') < text.index('equal steps')
    for words in (f'{num} evaluated images', 'seed 7', 'oneDNN it is', '<svg'):
        assert words in text
    assert png.stat().st_size > 1000


def test_page_of_before_is_kept_where_the_new_one_cannot_be(pair, tmp_path):
    html, _ = write_pair_page(tmp_path, pair[0])
    before = html.read_text()
    with files_of(100), pytest.raises(WriteError, match='must be written'):
        write_pair_page(tmp_path, pair[0])
    assert html.read_text() == before


def test_runs_without_matches_have_differences_and_no_intervals(tmp_path):
    dirs = [tmp_path / x for x in ('frozen/x', 'scratch/x')]
    for n, folder in enumerate(dirs):
        write(folder, 10, 0.5 - n / 10, n, matches=False)
    comparison = compare_pair(*dirs, None, None)
    [gain] = comparison.budgets[0].gains
    assert gain.gain.value == pytest.approx(0.1)
    assert gain.verdict == 'no interval'
    assert make_tables(comparison)[1].title == 'AP in %, equal steps: 10 steps'
    [html, _] = write_pair_page(tmp_path, comparison)
    assert 'No intervals' in html.read_text()
