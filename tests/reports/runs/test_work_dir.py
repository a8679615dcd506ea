"""Reading work dirs and setting runs side by side."""

import json

import pytest

from mmfrozen.reports.runs.work_dir import read_run


def write_run(folder, *starts, state='frozen', trainable=10):
    for i, lines in enumerate(starts):
        log = folder / f'2026010{i}_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('\n'.join(map(json.dumps, lines)))
    counts = dict(total=20, trainable=trainable)
    (folder / 'backbone.json').write_text(
        json.dumps(
            dict(
                state=state,
                backbone_type='ResNet',
                classifier='r.pth',
                backbone=counts,
                model=counts,
                verified_iter=4,
            )
        )
    )
    return folder


def step(seconds, at):
    return dict(loss=1.0, time=seconds, iter=at, step=at)


def evaluation(ap, at, **more):
    return {'lvis/bbox_AP': ap, 'time': 9.0, 'step': at, **more}


def test_resumed_run_is_read_as_one(tmp_path):
    run = read_run(
        write_run(
            tmp_path,
            [step(1, 1), step(3, 2), evaluation(0.1, 2)],
            [step(2, 3), evaluation(0.25, 3)],
        )
    )
    assert run.step == 3
    assert run.metrics == {'lvis/bbox_AP': 0.25}
    assert run.step_seconds == 2, 'the median over both starts'
    assert run.backbone.model.trainable == 10


def test_evaluation_after_a_test_is_the_last_one(tmp_path):
    write_run(tmp_path, [evaluation(0.1, 2)], [], [evaluation(0.3, 4)])
    tested = tmp_path / '20260101_000000/20260101_000000.json'
    tested.write_text(json.dumps({'lvis/bbox_AP': 0.2}))
    assert read_run(tmp_path).metrics == {'lvis/bbox_AP': 0.3}


def test_run_without_evaluation_has_no_metrics(tmp_path):
    run = read_run(write_run(tmp_path, [step(1, 1)]))
    assert run.metrics == {} and run.step is None


def test_stock_run_without_guard_is_read(tmp_path):
    write_run(tmp_path, [step(1, 1)])
    (tmp_path / 'backbone.json').unlink()
    assert read_run(tmp_path).backbone is None


def test_folder_that_is_no_work_dir_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='must hold .* Train first'):
        read_run(tmp_path)
