"""What is not finite is found within a step, and does no harm."""

import functools
import json
from pathlib import Path

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import CheckpointLoader

from mmfrozen.hooks.non_finite import non_finite_hook
from mmfrozen.hooks.non_finite.gradients import Norms
from tests.two_processes import in_two_processes

from .toy import NAN, run


def records(folder):
    return json.loads(Path(folder, 'non_finite.json').read_text())


def stopped(runner):
    with pytest.raises(RuntimeError) as caught:
        runner.train()
    message = str(caught.value)
    assert '\n' not in message
    return message


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


@pytest.mark.parametrize(
    ('harm', 'words'),
    [
        ('loss', ['loss_bbox is nan; the images are 2 (2.jpg), 3 (3.jpg)']),
        (
            'gradient',
            [
                'the gradients of 1 of 6 parameters',
                'the first in the backward pass is neck.0.weight',
            ],
        ),
        (
            'features',
            [
                'already the features of the frozen backbone are not '
                'finite, for 3 (3.jpg)',
                "Check the classifier's weights",
            ],
        ),
        (
            'pixels',
            ['already the pixels are not finite, for 3 (3.jpg)', 'std'],
        ),
        (
            'half',
            [
                'features of the frozen backbone are not finite, for 2 ',
                'The frozen backbone overflows in float16',
            ],
        ),
    ],
)
def test_stop_names_the_number_and_the_images_and_keeps_the_checkpoint(
    harm, words, tmp_path
):
    runner, watch = run(tmp_path, {3: harm})
    message = stopped(runner)
    for word in ('at iteration 2', 'rate is 0.01', *words):
        assert word in message, message
    assert checkpoints(tmp_path) == ['iter_1.pth']
    (record,) = records(tmp_path)
    assert record['iter'] == 2 and record['action'] == 'stopped'
    assert record['images'] == ['2 (2.jpg)', '3 (3.jpg)']


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_skip_leaves_weights_moments_and_statistics_bitwise(clip, tmp_path):
    harm = {3: 'loss', 4: 'gradient', 9: 'features'}
    runner, watch = run(
        tmp_path, harm, steps=6, policy='skip', wrapper=dict(clip_grad=clip)
    )
    runner.train()
    pairs = zip(watch.states, watch.states[1:], strict=False)
    kept = [before == after for before, after in pairs]
    assert kept == [False, True, True, False, True, False]
    moved = [n for n in watch.states[0] if n in watch.states[1]]
    assert any('running_var' in n for n in moved)
    assert [(r['iter'], r['action']) for r in records(tmp_path)] == [
        (i, 'skipped') for i in (2, 3, 5)
    ]
    saved = CheckpointLoader.load_checkpoint(str(tmp_path / 'iter_6.pth'))
    for tensor in saved['state_dict'].values():
        assert torch.isfinite(tensor).all()


def test_a_run_without_faults_is_bitwise_the_same_with_the_hook(tmp_path):
    runner, watch = run(tmp_path / 'with', {}, policy='skip')
    runner.train()
    other, plain = run(tmp_path / 'without', {})
    other._hooks = [
        h
        for h in other._hooks
        if not isinstance(h, non_finite_hook.NonFiniteHook)
    ]
    other.train()
    assert watch.states == plain.states
    assert not (tmp_path / 'with/non_finite.json').exists()
    assert 'step' not in vars(runner.optim_wrapper) or not hasattr(
        runner.optim_wrapper.step, '__wrapped__'
    ), 'the wrapper is as it was'


def test_more_than_so_many_in_a_row_stop(tmp_path):
    harm = dict.fromkeys((0, 4, 6, 8, 10), 'loss')
    runner, watch = run(tmp_path, harm, steps=8, policy='skip', max_in_a_row=2)
    message = stopped(runner)
    assert 'at iteration 5 on' in message, 'one good step in between'
    assert '3 updates in a row' in message
    assert [r['action'] for r in records(tmp_path)][-2:] == [
        'skipped',
        'stopped',
    ]


def test_accumulated_gradients_are_left_out_as_a_whole(tmp_path):
    runner, watch = run(
        tmp_path,
        {5: 'loss'},  # in the first half of the second update
        steps=6,
        policy='skip',
        wrapper=dict(accumulative_counts=2),
    )
    runner.train()
    states = watch.states
    assert states[4] == states[2] != states[0]
    assert states[6] != states[4]
    (record,) = records(tmp_path)
    assert (record['iter'], record['images']) == (
        3,
        ['4 (4.jpg)', '5 (5.jpg)'],
    )


@pytest.fixture
def late(monkeypatch):
    """As on a GPU: an update is looked at when the next one is due."""
    monkeypatch.setattr(non_finite_hook, '_can_defer', lambda _: True)


def test_looked_at_one_step_later_the_right_images_are_named(late, tmp_path):
    runner, watch = run(tmp_path, {3: 'loss'}, steps=4, checkpoint=10)
    message = stopped(runner)
    assert 'at iteration 2 on' in message and '3 (3.jpg)' in message
    assert len(watch.states) == 3, 'in the third step'


def test_looked_at_later_no_checkpoint_is_written_before(late, tmp_path):
    runner, watch = run(tmp_path, {3: 'gradient'})
    assert 'at iteration 2 ' in stopped(runner)
    assert checkpoints(tmp_path) == ['iter_1.pth']


def test_a_step_that_fails_over_it_says_so(tmp_path):
    runner, watch = run(tmp_path, {3: 'features', 0: 'raise'})
    message = stopped(runner)
    assert 'at iteration 2 on' in message and 'finite, for 3' in message


def test_looked_at_later_the_step_that_fails_over_it_says_so(late, tmp_path):
    harm = {3: 'gradient', 0: 'raise'}
    runner, watch = run(tmp_path, harm, checkpoint=10)
    message = stopped(runner)
    assert 'at iteration 2 on' in message and 'neck.0.weight' in message
    assert records(tmp_path)[0]['images'] == ['2 (2.jpg)', '3 (3.jpg)']


def test_an_error_of_another_kind_stays_as_it_is(tmp_path):
    runner, watch = run(tmp_path, {})
    runner.model.head = None
    with pytest.raises(TypeError, match='NoneType'):
        runner.train()
    assert not (tmp_path / 'non_finite.json').exists()


def test_weights_that_an_update_made_infinite_are_not_saved(tmp_path):
    runner, watch = run(
        tmp_path, {0: 'weights'}, optimizer=dict(type='SGD', lr=1e12)
    )
    message = stopped(runner)
    assert 'A checkpoint must hold finite weights' in message
    assert checkpoints(tmp_path) == []


def scaled(monkeypatch, scale):
    """A real gradient scaler, on a CPU."""
    monkeypatch.setattr(
        amp_optimizer_wrapper, 'is_cuda_available', lambda: True
    )
    monkeypatch.setattr(
        amp_optimizer_wrapper,
        'GradScaler',
        functools.partial(torch.amp.GradScaler, 'cpu'),
    )
    return dict(
        type='AmpOptimWrapper',
        dtype='bfloat16',
        loss_scale=dict(init_scale=scale),
    )


def test_what_a_gradient_scaler_leaves_out_is_no_fault(monkeypatch, tmp_path):
    wrapper = scaled(monkeypatch, 2.0**127)
    runner, watch = run(tmp_path, {}, wrapper=wrapper, steps=6)
    runner.train()
    assert watch.states[1] != watch.states[-1]
    assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127
    assert not (tmp_path / 'non_finite.json').exists()


def test_a_loss_that_is_not_finite_is_a_fault_under_a_scaler(
    monkeypatch, tmp_path
):
    wrapper = scaled(monkeypatch, 2.0**10)
    runner, watch = run(
        tmp_path, {3: 'features'}, wrapper=wrapper, policy='skip'
    )
    runner.train()
    assert watch.states[2] == watch.states[1] != watch.states[3]
    (record,) = records(tmp_path)
    assert record['found_in'] == 'features'
    assert record['loss_scale'] == 2.0**10, 'not halved for it'


def test_a_scale_that_has_come_down_to_1_is_a_fault(monkeypatch, tmp_path):
    harm = dict.fromkeys(range(20), 'gradient')
    wrapper = scaled(monkeypatch, 4.0)
    runner, watch = run(tmp_path, harm, wrapper=wrapper, steps=8)
    message = stopped(runner)
    assert 'at iteration 3 ' in message and 'loss scale 1.' in message
    assert "Set optim_wrapper.dtype='bfloat16'" in message


def train_in_a_process(folder, harm, options):
    runner, watch = run(folder, harm, **options)
    try:
        runner.train()
    except BaseException as error:
        return watch.states, error
    return watch.states, None


def test_all_processes_skip_the_step_of_which_one_has_the_fault(tmp_path):
    harm = {3: 'loss', 5: 'features', 6: 'gradient'}
    results = in_two_processes(
        train_in_a_process, tmp_path, tmp_path, harm, dict(policy='skip')
    )
    for states, error in results:
        assert error is None
        kept = [a == b for a, b in zip(states, states[1:], strict=False)]
        assert kept == [False, True, True, True]
    first, second = (states[-1] for states, _ in results)
    assert all(first[n] == second[n] for n in first if 'running' not in n)
    told = records(tmp_path)
    assert [(r['iter'], r['rank']) for r in told[:2]] == [(2, 0), (2, 1)]
    assert told[1]['losses']['loss_bbox'] is None
    assert told[3]['faulty_images'] == ['5 (5.jpg)']


def test_all_processes_skip_together_under_a_scaler(monkeypatch, tmp_path):
    options = dict(policy='skip', wrapper=scaled(monkeypatch, 2.0**10))
    results = in_two_processes(
        train_in_a_process, tmp_path, tmp_path, {3: 'loss'}, options
    )
    for states, error in results:
        assert error is None
        kept = [a == b for a, b in zip(states, states[1:], strict=False)]
        assert kept == [False, True, False, False]
    assert [r['loss_scale'] for r in records(tmp_path)] == [2.0**10] * 2


def test_all_processes_stop_and_one_of_them_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr('mmfrozen.hooks.stop_together.EXIT_DELAY', 0)
    results = in_two_processes(
        train_in_a_process, tmp_path, tmp_path, {3: 'loss'}, {}
    )
    (_, first), (_, second) = results
    assert 'at iteration 2 on rank 1: loss_bbox is nan' in str(first)
    assert '3 (3.jpg)' in str(first) and '2 (2.jpg)' not in str(first)
    assert isinstance(second, SystemExit) and second.code == 1
    assert checkpoints(tmp_path) == ['iter_1.pth']


def test_large_gradients_whose_squares_overflow_are_finite():
    large = torch.tensor([1e30, -1e30])
    named = [('large', large), ('bad', large * 1e30), ('worse', large * NAN)]
    assert Norms(named).find_bad() == ['worse', 'bad']
    assert Norms([]).find_bad() == []


def test_options_that_are_none_are_refused():
    for options in (dict(policy='ignore'), dict(max_in_a_row=-1)):
        with pytest.raises(ValueError, match='non_finite.*must be.*got'):
            non_finite_hook.NonFiniteHook(**options)
