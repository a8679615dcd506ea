"""One page that needs nothing else."""

import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from mmfrozen.reports.page import (
    check_empty,
    figure,
    section,
    table,
    write_page,
)


class Balance(HTMLParser):
    """Counts what is opened and not closed."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.links = []

    def handle_starttag(self, tag, attributes):
        self.links += [v for k, v in attributes if k in ('src', 'href')]
        if tag not in ('meta', 'path', 'use', 'rect', 'image', 'br'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.links += [v for k, v in attributes if k in ('src', 'href')]

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def chart():
    fig = Figure()
    fig.subplots().plot([1, 2], [3, 4], label='a < b')
    return fig


def test_page_is_well_formed_and_refers_to_no_other_file(tmp_path):
    path = tmp_path / 'deep/report.html'
    write_page(
        path, 'A & B', [section('One', [figure(chart(), 'what it shows')])]
    )
    page = Balance()
    page.feed(path.read_text())
    assert not page.open
    assert not [link for link in page.links if 'http' in (link or '')]
    assert 'what it shows' in path.read_text()


def test_names_in_cells_are_text_and_not_markup():
    made = table(['name', 'AP'], [['<script>', '1'], ['all', '2']], totals=1)
    assert '<script>' not in made and '&lt;script&gt;' in made
    assert re.findall(r'<tr class=total>.*?</tr>', made) == [
        '<tr class=total><td>all</td><td>2</td></tr>'
    ]


def test_the_same_chart_makes_the_same_page():
    assert figure(chart(), 'x') == figure(chart(), 'x')


def test_a_page_that_is_there_is_kept(tmp_path):
    path = tmp_path / 'report.html'
    path.write_text('mine')
    with pytest.raises(FileExistsError, match='--html must name a new file'):
        write_page(path, 'title', [])
    assert path.read_text() == 'mine'


def test_only_a_new_or_empty_folder_is_drawn_into(tmp_path):
    check_empty(tmp_path / 'new')
    check_empty(tmp_path)
    (tmp_path / 'mine').write_text('mine')
    for taken in (tmp_path, tmp_path / 'mine'):
        with pytest.raises(FileExistsError, match='--png must name a new'):
            check_empty(taken)
