"""The table of a model's parts, and the tool that prints it."""

import re
import sys

import pytest
from rich.console import Console

from mmfrozen.reports.parameters import parameter_table
from mmfrozen.run_files import ModuleReport, ParameterCounts
from mmfrozen_cli import describe as describe_command
from tests.tiny import ROOT

ROWS = [
    ModuleReport('backbone.stem', 'frozen', ParameterCounts(9_000, 0), 0),
    ModuleReport('backbone.stage 1', 'partial', ParameterCounts(500, 20), 1),
    ModuleReport('neck', 'trained', ParameterCounts(2_500_000, 2_500_000), 3),
    ModuleReport('roi_head.extractor', 'empty', ParameterCounts(0, 0), 0),
]


def draw(rows):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(parameter_table(rows, 'a model'))
    return capture.get()


def numbers(text, name):
    (line,) = [x for x in text.splitlines() if f' {name} ' in x]
    return [float(x) for x in re.findall(r'\d+\.\d{3}|\d+(?= │$)', line)]


def test_rows_show_their_counts_and_add_up_to_the_sum():
    text = draw(ROWS)
    rows = [numbers(text, row.name) for row in ROWS]
    for row, (total, trainable, moving) in zip(ROWS, rows, strict=True):
        assert total == pytest.approx(row.parameters.total / 1e6, abs=5e-4)
        assert trainable == pytest.approx(
            row.parameters.trainable / 1e6, abs=5e-4
        )
        assert moving == row.moving_norms
    sums = [sum(column) for column in zip(*rows, strict=True)]
    assert numbers(text, 'sum') == pytest.approx(sums, abs=2e-3)
    assert '99.6% trains' in text


def test_no_rows_make_an_empty_table():
    assert numbers(draw([]), 'sum') == [0, 0, 0]


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the tool as a person types it, in this process."""
    monkeypatch.chdir(ROOT)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['mmfrozen describe', *args])
        code = describe_command.main()
        return code, *capsys.readouterr()

    return run


def test_tool_prints_the_state_of_every_part_of_a_config(run):
    code, out, _ = run('configs/frozen/mask_rcnn_lite0_mini-lvis.py')
    assert code == 0
    for name in ('stem', *(f'stage {i}' for i in range(1, 8))):
        assert re.search(rf'backbone\.{name} +│ frozen', out), name
    for name in ('neck', 'rpn_head', r'roi_head\.(bbox|mask)_head'):
        assert re.search(rf'{name} +│ trained', out), name
    assert re.search(r'data_preprocessor +│ empty', out)


@pytest.mark.parametrize(
    'args, word',
    [
        (['no/such.py'], 'no/such.py'),
        (
            ['configs/frozen/_base_/runtime.py'],
            'must have a model, got configs/frozen/_base_/runtime.py without',
        ),
        (
            [
                'configs/frozen/mask_rcnn_lite0_mini-lvis.py',
                '--cfg-options',
                'model.backbone.frozen_stages=9',
            ],
            'frozen_stages must be 0 (the stem) to 7',
        ),
    ],
)
def test_wrong_use_ends_in_one_line(run, args, word):
    code, out, error = run(*args)
    assert code == 2 and out == ''
    assert error.count('\n') == 1 and word in error
