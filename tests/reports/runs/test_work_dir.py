"""Reading work dirs and setting runs side by side."""

import json

import pytest
from rich.console import Console

from mmfrozen.reports.runs.work_dir import pair_table, read_run


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


def test_table_shows_per_cent_absent_bins_and_the_control(tmp_path):
    runs = {
        state: read_run(
            write_run(
                tmp_path / state,
                [step(seconds, 1), evaluation(ap, 1, **{'lvis/bbox_APr': -1})],
                state=state,
                trainable=trainable,
            )
        )
        for state, seconds, ap, trainable in (
            ('frozen', 1.5, 0.125, 5),
            ('finetuned', 3.0, 0.1, 20),
        )
    }
    rows = table_rows(runs)
    assert rows['box AP'] == ['12.5', '10.0', '+2.5']
    assert rows['box APr'] == rows['mask AP'] == ['-', '-', '-']
    assert rows['step, s'] == ['1.50', '3.00', 'x 0.50']
    assert rows['trainable, M'][2] == 'x 0.25'


def test_table_of_other_metrics_has_every_ap(tmp_path):
    lines = [step(1, 1), {'b/coco/bbox_mAP_s': 0.5, 'a/x_AP': 0.25, 'step': 1}]
    run = read_run(write_run(tmp_path, lines))
    rows = table_rows({'frozen': run, 'finetuned': run})
    assert rows['b/coco/bbox_mAP_s'] == ['50.0', '50.0', '+0.0']
    assert rows['a/x_AP'][0] == '25.0' and 'box AP' not in rows


def table_rows(runs):
    """Cells of the printed table, by the head of their row."""
    console = Console(record=True, width=100)
    console.print(pair_table(runs, 'a title'))
    cells = [
        [cell.strip() for cell in line.split('│')[1:-1]]
        for line in console.export_text().splitlines()
        if '│' in line
    ]
    return {head: row for head, *row in cells}
