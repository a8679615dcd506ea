"""Names that would act in a page, a picture, a table or a terminal."""

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mmfrozen.reports.augmentation_sheet import Sample, draw_sheet
from mmfrozen.reports.pair.comparison import ApGain, Budget, PairComparison
from mmfrozen.reports.pair.page import write_pair_page
from mmfrozen.reports.runs.costs import CostRow
from mmfrozen.reports.savings.page import write_report
from mmfrozen.reports.strata.record import Estimate
from mmfrozen.tracing.trace_pair import trace_pair
from mmfrozen_cli import main

from .pair.test_pair import TIMES
from .runs import work_dirs
from .runs.work_dirs import drift, evaluation, write_run
from .savings.test_savings import WORK, tiny_pair
from .strata import strata_data

NAME = (
    '<script>x()</script> "><img src=x onerror=x()> \' onload=x() ]]>--> '
    '[bold]a[/i] :smile: $\\frac$ & &lt; \x1b[31m\r\n\x85\u202e'
)
FILE_NAME = NAME.replace('/', '|')


class Elements(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.links = []
        self.texts = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found |= {(tag, name) for name, _ in attributes} | {(tag, None)}
        self.links += [
            value
            for name, value in attributes
            if name.endswith(('src', 'href'))
        ]

    def handle_data(self, data):
        self.texts.append(data)


def check_page(path):
    """A page has none of the elements and attributes of its names."""
    page = Elements(path.read_text(encoding='utf-8'))
    assert any('<script>x()<' in text for text in page.texts)
    tags = {tag for tag, _ in page.found}
    assert tags & {'table', 'svg', 'text'} and 'script' not in tags
    assert not [
        name for _, name in page.found if (name or '').startswith('on')
    ]
    assert all(x.startswith(('#', 'data:image/')) for x in page.links)


@pytest.fixture
def tool(monkeypatch, capsys):
    """Calls the command; returns its exit status and what it printed."""
    monkeypatch.setattr('logging.disable', lambda level: None)

    def call(*words):
        words = ['mmfrozen', *map(str, words)]
        monkeypatch.setattr(sys, 'argv', words)
        status = main()
        out, err = capsys.readouterr()
        for text in (out, err):
            assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]', text)
        return status, out + err

    return call


def test_strata(tmp_path, monkeypatch, tool):
    for number in strata_data.NAMES:
        monkeypatch.setitem(strata_data.NAMES, number, f'{NAME} {number}')
    data = strata_data.write(tmp_path)
    runs = [tmp_path / f'{FILE_NAME}{i}' for i in (1, 2)]
    for run, old in zip(runs, ('frozen', 'finetuned'), strict=True):
        (tmp_path / old).rename(run)
    options = [
        *('--ann', data / 'annotations/val.json'),
        *('--train-ann', data / 'annotations/train.json'),
        *('--resamples', 5),
    ]
    html, png = tmp_path / 'page.html', tmp_path / 'png'
    status, text = tool(
        'strata', *runs, *options, '--html', html, '--png', png
    )
    assert status == 0, text
    assert '[bold]' in text and ':smile:' in text
    check_page(html)
    assert all(re.fullmatch(r'[\w.-]+', x.name) for x in png.iterdir())
    status, text = tool('strata', *runs, *options, '--html', html)
    assert status == 2 and text.count('\n') == 1
    status, text = tool('strata', f'{NAME}.json', *options)
    assert status == 2 and text.count('\n') == 1


def test_compare(tmp_path, tool):
    runs = [
        write_run(
            tmp_path / f'{FILE_NAME} {number}' / FILE_NAME,
            [*map(work_dirs.step, (1, 2)), evaluation(2, 0.1)],
            state=state,
            costs=[work_dirs.HALF],
            drifts=[rename(drift(3, moved))],
            config=FILE_NAME,
        )
        for number, (state, moved) in enumerate(
            [('frozen', 0.0), ('frozen', 0.0), ('finetuned', 0.2)]
        )
    ]
    html, png = tmp_path / 'page.html', tmp_path / 'png'
    status, text = tool('compare', *runs, '--html', html, '--png', png)
    assert status == 0, text
    assert '[bold]' in text
    check_page(html)
    status, text = tool('savings', *runs[1:])
    assert status == 0 and '[bold]' in text


def test_pair(tmp_path):
    same = Estimate(0.1, 0.0, 0.2)
    pair = PairComparison(
        experiment=NAME,
        state=NAME,
        control=NAME,
        times=replace(TIMES, engine=NAME, device=NAME, torch=NAME),
        costs=[CostRow(NAME, 's', 1.0, 2.0, 0.5)],
        budgets=[Budget(NAME, 1, 1, [ApGain(NAME, same, same, same)])],
        seed=0,
        num_images=1,
    )
    html, _ = write_pair_page(tmp_path, pair)
    check_page(html)


def rename(entry):
    entry['stages'][NAME] = entry['stages'].pop('l1')
    return entry


def test_check(tmp_path, tool):
    path = tmp_path / 'x.json'
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=NAME, file_name=NAME, width=9, height=9)] * 2,
                categories=[dict(id=1, name=f'{NAME}\ud800')] * 2,
                annotations=[],
            )
        )
    )
    status, text = tool('check', path)
    assert status == 1 and '[bold]' in text
    status, text = tool('check', tmp_path / NAME)
    assert status == 2 and text.count('\n') == 1


def test_augmentation_sheet(tmp_path):
    sample = Sample(
        image=np.zeros((64, 64, 3), np.uint8),
        boxes=np.array([[8.0, 8.0, 40.0, 40.0]]),
        labels=np.array([0]),
        outlines=None,
        ignored=np.array([False]),
        name=NAME,
    )
    sheet = draw_sheet([sample], ['$\\frac$'], np.array([1]), NAME)
    sheet.savefig(tmp_path / 'x.svg')
    assert '<script' not in (tmp_path / 'x.svg').read_text()


def test_savings(tmp_path):
    savings = trace_pair(tiny_pair(), WORK)
    step = savings.frozen.step
    step = replace(
        step,
        components=[
            replace(x, name=f'{NAME}{x.name}') for x in step.components
        ],
        uncounted={NAME: 3},
        rois={NAME: (1, 1)},
        left_out=[NAME],
        failure=NAME,
    )
    side = replace(savings.frozen, label=NAME, description=NAME, step=step)
    path = tmp_path / 'page.html'
    write_report(path, replace(savings, frozen=side), memory_bytes=10**9)
    check_page(path)
