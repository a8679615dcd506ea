"""Learning curves out of logs: resumed, going on, by epoch or by step."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfrozen.reports.runs.learning_curves import (
    iters_per_epoch,
    read_aps,
    read_learning_curve,
)

from .work_dirs import evaluation, step, write_run


def test_steps_carry_training_time_without_evaluations(tmp_path):
    lines = [step(5), evaluation(5, 0.1), step(10, seconds=4.0)]
    curve = read_learning_curve(write_run(tmp_path, lines))
    assert [(s.iter, s.seconds) for s in curve.steps] == [(5, 10), (10, 30)]
    assert curve.seconds_at(5) == 10
    assert curve.seconds_at(7) == pytest.approx(18), 'between two lines'
    assert curve.seconds_at(20) == pytest.approx(60), 'after the last'


def test_what_a_resumed_run_does_again_counts_once(tmp_path):
    first = [
        step(5),
        evaluation(5, 0.1),
        step(10, loss=9),
        evaluation(10, 0.9),
    ]
    second = [step(8, loss=2), step(10, loss=3), evaluation(10, 0.2)]
    curve = read_learning_curve(write_run(tmp_path, first, second))
    assert [(s.iter, s.loss) for s in curve.steps] == [(5, 1), (8, 2), (10, 3)]
    assert [(e.iter, e.aps['box AP']) for e in curve.evaluations] == [
        (5, 0.1),
        (10, 0.2),
    ]
    assert curve.steps[-1].seconds == 20


def test_evaluations_that_count_epochs_are_put_at_their_step(tmp_path):
    lines = [
        step(4, epoch=1),
        evaluation(1, 0.1),
        step(10, epoch=2),
        evaluation(2, 0.2),
    ]
    curve = read_learning_curve(write_run(tmp_path, lines))
    assert curve.iters_per_epoch == 5
    assert [e.iter for e in curve.evaluations] == [5, 10]


def test_evaluation_without_a_step_comes_after_what_was_logged(tmp_path):
    lines = [step(5), evaluation(0, 0.1), step(9), evaluation(0, 0.2)]
    curve = read_learning_curve(write_run(tmp_path, lines))
    assert [e.iter for e in curve.evaluations] == [5, 9]
    assert curve.iters_per_epoch is None


def test_run_that_is_going_on_may_have_half_a_line(tmp_path):
    write_run(tmp_path, [step(5)])
    [log] = tmp_path.rglob('scalars.json')
    log.write_text(log.read_text() + '{"loss": 1.0, "ti')
    assert len(read_learning_curve(tmp_path).steps) == 1


def test_half_a_line_within_a_log_is_an_error_in_one_line(tmp_path):
    write_run(tmp_path, [step(5)])
    [log] = tmp_path.rglob('scalars.json')
    log.write_text('{"loss": 1.0, "ti\n' + log.read_text())
    with pytest.raises(ValueError, match='in line 1') as caught:
        read_learning_curve(tmp_path)
    assert '\n' not in str(caught.value)


def test_loss_that_is_no_number_is_kept(tmp_path):
    write_run(tmp_path, [step(5, loss=math.nan)])
    assert math.isnan(read_learning_curve(tmp_path).steps[0].loss)


def test_run_without_a_step_has_no_time(tmp_path):
    write_run(tmp_path, [evaluation(0, 0.1)])
    assert read_learning_curve(tmp_path).seconds_at(3) is None


def test_aps_of_any_evaluator_are_found_and_undefined_ones_left_out():
    metrics = {
        'coco/bbox_mAP': 0.3,
        'coco/segm_mAP': math.nan,
        'coco/bbox_mAP_50': 0.5,
        'lvis/bbox_APr': -1,
        'val/lvis/segm_APr': 0.2,
        'bbox_AP': 0.9,
    }
    assert read_aps(metrics) == {'box AP': 0.3, 'mask APr': 0.2}


@settings(deadline=None)
@given(
    length=st.integers(1, 2000),
    epochs=st.integers(2, 12),
    interval=st.integers(1, 60),
)
def test_length_of_an_epoch_is_never_overestimated(length, epochs, interval):
    lines = [
        step(epoch * length + inner, epoch=epoch + 1)
        for epoch in range(epochs)
        for inner in range(1, length + 1)
        # as the logger does: at the interval, and at the end of short ones
        if inner % interval == 0 or (inner == length and length <= interval)
    ]
    found = iters_per_epoch(lines)
    if found is None:
        assert not any(line['epoch'] > 1 for line in lines)
    else:
        assert length - interval / epochs <= found <= length


def test_log_of_the_visualizer_is_read_as_it_dumps(tmp_path):
    log = tmp_path / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(
        json.dumps({'step_cost/step_seconds': 0.1, 'step': 3}) + '\n'
    )
    curve = read_learning_curve(tmp_path)
    assert curve.steps == [] and curve.evaluations == []
