"""configs/README.md and the list that its table is made of."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmfrozen.freezing import count_parameters
from mmfrozen.reports.experiments import (
    BEGIN,
    END,
    Experiment,
    count_flops,
    find_experiments,
    list_experiments,
    markdown,
    read_flops,
    read_head,
    row,
)
from mmfrozen.reports.marked_text import replace_between
from mmfrozen_cli.experiments import main
from tests.tiny import ROOT

from .pack import FROZEN, PACK, build

README = (PACK / 'README.md').read_text()


def cells_by_name():
    lines = README.partition('<!-- experiments:')[2].splitlines()
    rows = [
        [c.strip(' `') for c in line.strip('|').split('|')] for line in lines
    ]
    return {cells[0]: cells for cells in rows if len(cells) == 8}


def test_table_lists_every_experiment_and_no_other():
    rows = list(cells_by_name())
    assert rows[2:] == [path.stem for path in FROZEN]


@pytest.mark.parametrize('path', FROZEN, ids=lambda p: p.stem)
def test_sizes_in_the_table_are_those_that_are_built(path):
    counts = count_parameters(build(path))
    known = read_flops(README)[path.stem]
    experiment = Experiment(
        path.stem, counts.total, counts.trainable, *known, *read_head(path)
    )
    ours = cells_by_name()[path.stem]
    expected = row(experiment)
    assert ours[:4] == expected[:4] and ours[7] == expected[7]
    assert ours[4:7] == expected[4:7]


def test_flops_in_the_table_are_those_that_are_counted():
    _check_flops([PACK / 'frozen/retinanet_r50_fpn_12e_coco.py'])


@pytest.mark.configs
def test_flops_of_every_experiment_are_those_that_are_counted():
    _check_flops(FROZEN)


def _check_flops(paths):
    known = read_flops(README)
    for name, flops in count_flops(paths).items():
        # RoIs are drawn, hence not the last digit
        assert flops == pytest.approx(known[name], rel=2e-3), name


def test_experiment_that_cannot_be_traced_is_named(tmp_path):
    path = tmp_path / 'bad.py'
    path.write_text('x = 1')
    with pytest.raises(ValueError, match='bad: A config must have a model'):
        count_flops([path])


def test_freezing_saves_flops_in_every_experiment():
    for name, (frozen, finetuned) in read_flops(README).items():
        assert 0 < frozen < finetuned, name


def test_ladder_climbs():
    order = [
        'mask_rcnn_r101_fpn_2fc_lvis',
        'mask_rcnn_r101_fpn_4conv1fc_lvis',
        'mask_rcnn_r101_bifpn_lvis',
        'mask_rcnn_r101_fpn_lvis',
        'mask_rcnn_r101_wide-fpn_lvis',
        'mask_rcnn_r101_lvis',
        'cascade_mask_rcnn_r101_2-stage_lvis',
        'cascade_mask_rcnn_r101_lvis',
        'mask_rcnn_r101_wide-heads_lvis',
    ]
    table = cells_by_name()
    sizes = [float(table[name][2]) for name in order]
    assert sizes == sorted(sizes)
    for rung, name in enumerate(order, start=1):
        head = (PACK / f'frozen/{name}.py').read_text()
        if name != 'mask_rcnn_r101_lvis':  # the main experiment is the 6th
            assert f'Capacity ladder, rung {rung}:' in head


def test_names_in_the_readme_exist():
    stems = {path.stem for path in FROZEN}
    for name in re.findall(r'configs/\w+/(\S+?)\.py', README):
        assert name in stems, name
    for name in re.findall(
        r'`((?:mask|faster|cascade)\w*rcnn_[\w-]+)`', README
    ):
        assert any(stem.startswith(name) for stem in stems), name


def test_table_replaces_the_one_before_and_keeps_what_is_around_it():
    experiment = Experiment('x', 2_000_000, 1_000_000, 3e12, 4e12, True, '')
    table = markdown([experiment])
    text = f'head\n{BEGIN}{table}{END}\nfoot\n'
    assert (
        '| `x` | 2.00 | 1.00 | 50.0% | 3.000 | 4.000 | 25% | not run |' in text
    )
    assert read_flops(text) == {'x': (3e12, 4e12)}
    other = markdown([])
    page = Path('README.md')
    replaced = replace_between(page, text, BEGIN, END, other)
    assert replaced == f'head\n{BEGIN}{other}{END}\nfoot\n'
    with pytest.raises(ValueError, match='README.md must have the lines'):
        replace_between(page, 'no marks', BEGIN, END, table)


@pytest.fixture
def small_pack(tmp_path):
    """A pack of one experiment, whose table has old sizes."""
    (tmp_path / 'frozen').mkdir()
    base = PACK / 'frozen/retinanet_r50_fpn_12e_coco.py'
    (tmp_path / 'frozen/x.py').write_text(
        f'"""AP: not run."""\n_base_ = {str(base)!r}\n'
    )
    table = markdown([Experiment('x', 1, 1, 3e12, 4e12, True, '')])
    (tmp_path / 'README.md').write_text(f'head\n{BEGIN}{table}{END}\nfoot\n')
    return tmp_path


def test_flops_are_those_of_the_table_until_they_are_counted_anew(small_pack):
    text = (small_pack / 'README.md').read_text()
    kept = list_experiments(small_pack, flops=read_flops(text))
    assert (kept[0].frozen_flops, kept[0].finetuned_flops) == (3e12, 4e12)
    assert kept[0].parameters > 1e7
    unknown = list_experiments(small_pack, flops={})
    assert row(unknown[0])[4:7] == ['-', '-', '-']


def test_old_table_fails_the_check_until_it_is_written(
    small_pack, monkeypatch, capsys
):
    readme = small_pack / 'README.md'
    before = readme.read_text()

    def call(option):
        words = ['mmfrozen experiments', str(small_pack), option]
        monkeypatch.setattr(sys, 'argv', words)
        return main(), capsys.readouterr().out

    assert call('--check') == (
        1,
        f'{readme} is out of date: run with --write\n',
    )
    assert readme.read_text() == before
    assert call('--write') == (0, f'wrote 1 experiments to {readme}\n')
    table = markdown(list_experiments(small_pack, flops=read_flops(before)))
    assert readme.read_text() == f'head\n{BEGIN}{table}{END}\nfoot\n'
    assert call('--check') == (0, f'{readme} is up to date\n')


def test_config_without_a_docstring_has_no_reported_ap(tmp_path):
    (tmp_path / 'x.py').write_text('_base_ = []\n')
    assert read_head(tmp_path / 'x.py') == (False, '')


def test_folder_without_experiments_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='must hold experiments'):
        find_experiments(tmp_path)


def test_tool_refuses_what_is_no_pack_in_one_line():
    done = subprocess.run(
        [sys.executable, 'tools/list_experiments.py', 'tools', '--check'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr == (
        "error: FOLDER must have a README.md, got none in 'tools'. Remove "
        '--write and --check.\n'
    )
