"""Tables, records, pages and batches of what freezing saves."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.backbones import ResNet
from mmengine.config import Config
from rich.console import Console

from mmfrozen.config_file import ZOO
from mmfrozen.cost.shape_mode import ShapeMode
from mmfrozen.reports.savings import tables
from mmfrozen.reports.savings.all_configs import (
    PackEntry,
    pack_head,
    pack_row,
    trace_pack,
)
from mmfrozen.reports.savings.charts import headline
from mmfrozen.reports.savings.comparison import (
    compare_totals,
    thin_out,
    to_record,
)
from mmfrozen.reports.savings.page import write_report
from mmfrozen.tracing import largest_batch
from mmfrozen.tracing.largest_batch import find_largest_batch, parse_bytes
from mmfrozen.tracing.pair import Variant, find_pair
from mmfrozen.tracing.trace_pair import Savings, trace_pair
from mmfrozen.tracing.training_step import CannotTraceError
from mmfrozen.tracing.workload import Workload
from tests.tiny import ROOT, tiny_config

WORK = Workload((64, 64), 'as set', 2, objects=4)


def tiny_pair():
    cfg = tiny_config('-', '-', '-')
    return (
        Variant('frozen', 'x.py', 'none', cfg),
        Variant('fine-tuned', 'x.py', 'thaw', cfg),
    )


@pytest.fixture(scope='module')
def savings():
    return trace_pair(tiny_pair(), WORK)


def number(cell):
    return float(cell.replace(',', ''))


def test_rows_add_up_to_the_last(savings):
    for rows, rounding in (
        (tables.flop_rows(savings), 0.06),
        (tables.memory_rows(savings), 0.6),
    ):
        *parts, last = rows
        for column in range(1, len(last) - 1):
            total = sum(number(row[column]) for row in parts)
            assert total == pytest.approx(
                number(last[column]), abs=rounding * len(parts)
            )


def test_sums_show_what_is_saved(savings):
    step = next(q for q in compare_totals(savings) if q.name == 'step')
    assert step.frozen < step.control
    assert step.saved == 1 - step.frozen / step.control
    rows = {row[0]: row[1:] for row in tables.total_rows(savings)}
    assert rows['step, GFLOPs'][2] == f'{100 * step.saved:.1f}\u00a0%'
    assert rows['parameters, M'][2] == '0.0\u00a0%'
    macs = tables.total_rows(savings, macs=True)
    halves = dict(row[:2] for row in macs)
    assert number(halves['step, GMACs']) == pytest.approx(
        step.frozen / 2e9, abs=0.05
    )


def test_headline_says_more_where_nothing_is_saved(savings):
    swapped = Savings(savings.work, savings.control, savings.frozen)
    assert re.search(
        'takes [0-9.]+.% more FLOPs than frozen, [0-9.]+.% more memory',
        headline(swapped),
    )
    assert ' fewer FLOPs than' in headline(savings)


def test_terminal_shows_components_conditions_and_the_convention(savings):
    console = Console(record=True, width=140)
    for table in tables.draw_all(savings):
        console.print(table)
    text = console.export_text()
    for what in ('backbone.stage 4', 'neck', '2 per multiply-add', 'state of'):
        assert what in text
    lines = '\n'.join(tables.condition_lines(savings))
    assert '2 x 3 x 64 x 64 (as set), fp32; 4 objects per image' in lines
    assert 'roi_head.bbox_head 16 (4 positive)' in lines
    assert 'every stage of its backbone trained' in lines
    assert 'x ' in tables.describe_uncounted(savings)


def test_record_is_json_and_keeps_the_peak(savings):
    record = json.loads(json.dumps(to_record(savings)))
    step = record['control']['step']
    assert max(nbytes for _, nbytes in step['timeline']) == step['peak_bytes']
    assert record['unit_of_flops'] == '2 per multiply-add'
    assert step['components'][0]['flops'].keys() == {
        'forward',
        'backward_input',
        'backward_weight',
    }


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 99)), min_size=1),
    st.integers(1, 9),
)
def test_thinned_out_timeline_keeps_ends_and_heights(steps, points):
    flops, timeline = 0, []
    for more, nbytes in steps:
        flops += more
        timeline.append((flops, nbytes))
    kept = thin_out(timeline, points)
    assert max(n for _, n in kept) == max(n for _, n in timeline)
    assert kept[0] == timeline[0] and kept[-1] == timeline[-1]
    assert len(kept) <= points + 3
    assert [f for f, _ in kept[1:-1]] == sorted(f for f, _ in kept[1:-1])


def test_report_is_one_file_with_charts(savings, tmp_path):
    path = tmp_path / 'report.html'
    write_report(path, savings, memory_bytes=10**9, ap=(40.1, 39.8))
    text = path.read_text()
    assert text.count('<svg') == 4
    assert not re.search(r'(src|href)="https?:', text)
    assert 'fewer FLOPs than fine-tuned' in text
    assert 'AP 40.1' in text and '2 FLOPs' in text
    with pytest.raises(FileExistsError, match='--html must name a new file'):
        write_report(path, savings)


@settings(deadline=None)
@given(
    st.integers(0, 900), st.integers(1, 60), st.integers(1, 4000),
    st.integers(1, 40),
)  # fmt: skip
def test_largest_batch_fits_and_the_next_does_not(fixed, each, memory, known):
    def trace(cfg, work, **options):
        class Step:
            peak_bytes = fixed + each * work.batch_size

        return Step

    original = largest_batch.trace_step
    largest_batch.trace_step = trace
    try:
        variant = Variant('frozen', 'x.py', 'none', Config())
        found = find_largest_batch(
            variant,
            WORK,
            memory,
            mode=ShapeMode(),
            known={known: fixed + each * known},
        )
    finally:
        largest_batch.trace_step = original
    want = max(0, min((memory - fixed) // each, largest_batch.LIMIT))
    assert found.batch_size == want
    assert want == 0 or found.peak_bytes <= memory
    assert want == largest_batch.LIMIT or found.next_bytes > memory


@pytest.mark.parametrize(
    'text, nbytes',
    (('24GB', 24 * 10**9), ('1.5 GiB', 3 * 2**29), ('512mib', 2**29)),
)
def test_sizes_are_read(text, nbytes):
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize('text', ('24', 'GB', '-3GB', '0GB', '1.2.3GB', '9PB'))
def test_other_sizes_are_refused(text):
    with pytest.raises(ValueError, match='such as 24GB'):
        parse_bytes(text)


def test_pack_goes_on_after_a_config_that_fails(tmp_path):
    bad = tmp_path / 'bad.py'
    bad.write_text('x = 1')
    (entry,) = trace_pack([bad], lambda cfg: WORK)
    assert entry.savings is None and 'must have a model' in entry.error
    assert len(pack_row(entry)) == len(pack_head())


def test_papers_cascade_saves_nearly_what_the_paper_reports():
    """5000 B -> 3500 B FLOPs, 30 %; 132.9 M parameters, 71.2 M trainable: as
    quoted from the paper. Here an image of 1280 x 1280."""
    pair = find_pair(str(ROOT / 'configs/frozen/cascade_rcnn_rs101_coco.py'))
    work = Workload((1280, 1280), 'as set', 1)
    totals = {q.name: q for q in compare_totals(trace_pair(pair, work))}
    assert 0.28 < totals['step'].saved < 0.30
    assert totals['step'].control == pytest.approx(3764e9, rel=0.002)
    assert totals['parameters'].frozen == pytest.approx(132.9e6, rel=0.001)
    assert totals['trainable'].frozen == pytest.approx(71.2e6, rel=0.005)
    assert totals['kept for backward'].saved > 0.6


def test_control_whose_backbone_gets_no_gradient_is_told(savings, monkeypatch):
    assert not any('WARNING' in x for x in tables.condition_lines(savings))
    forward = torch.no_grad()(ResNet.forward)
    monkeypatch.setattr(ResNet, 'forward', forward)
    warned, *_ = tables.condition_lines(trace_pair(tiny_pair(), WORK))
    assert 'WARNING: the backbone of fine-tuned gets no gradient' in warned


@pytest.fixture
def partial(monkeypatch):
    """The same pair, whose RoIs cannot be read."""

    def fail(self, x, rois):
        raise RuntimeError('no luck')

    monkeypatch.setattr('mmcv.ops.RoIAlign.forward', fail)
    return trace_pair(tiny_pair(), WORK, partial=True)


def test_what_is_left_out_is_told_wherever_a_saving_is_printed(
    savings, partial, tmp_path
):
    missing = 'without roi_head.bbox_head, roi_head.mask_head, losses'
    first, *_ = tables.condition_lines(partial)
    assert first.startswith(f'PARTIAL: {missing}; the forward pass failed')
    assert 'no luck' in first
    for table in tables.draw_all(partial):
        assert table.title.startswith('PARTIAL')
    assert tables.total_head(partial)[0] == 'the part of a step that ran'
    record = json.loads(json.dumps(to_record(partial)))
    assert record['left_out'] == missing.removeprefix('without ').split(', ')
    path = tmp_path / 'report.html'
    write_report(path, partial)
    assert (
        f'the counted part of a training step, {missing},' in path.read_text()
    )
    assert pack_row(PackEntry('x', partial))[0] == 'x (PARTIAL)'
    assert to_record(savings)['left_out'] == []
    assert not any(
        'PARTIAL' in line for line in tables.condition_lines(savings)
    )


def test_sides_that_lack_different_parts_are_not_compared(monkeypatch):
    frozen, control = tiny_pair()
    other = Config(control.cfg.to_dict())
    neck = other.model.neck
    other.model.neck = dict(
        type='FPN',
        in_channels=neck.in_channels,
        out_channels=neck.out_channels,
        num_outs=neck.num_outs,
    )

    def fail(self, *args):
        raise RuntimeError('no luck')

    monkeypatch.setattr('mmdet.models.necks.FPN.forward', fail)
    pair = (frozen, Variant('control', 'y.py', 'none', other))
    with pytest.raises(CannotTraceError) as caught:
        trace_pair(pair, WORK, partial=True)
    message = str(caught.value)
    assert 'frozen without nothing and control without neck, rpn' in message


def test_positives_that_an_assigner_chose_are_printed():
    cfg = Config.fromfile(ZOO / 'atss/atss_r50_fpn_1x_coco.py')
    pair = [Variant(x, 'x.py', x, cfg) for x in ('freeze', 'thaw')]
    lines = tables.condition_lines(trace_pair(tuple(pair), WORK))
    (line,) = [line for line in lines if 'positives per image' in line]
    assert re.search(r'bbox_head.assigner [1-9]', line)
