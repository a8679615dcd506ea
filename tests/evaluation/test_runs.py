"""The metrics in runs of MMDetection, on mini-LVIS."""

import json
import math
from pathlib import Path

import pytest
from mmengine.evaluator import Evaluator

from mmfrozen.evaluation import (
    GroundTruth,
    StratifiedCocoMetric,
    match,
    read_results,
)
from mmfrozen.reports.runs.work_dir import read_run
from tests.tiny import build, tiny_config


@pytest.fixture
def cfg(tmp_path, mini_lvis, resnet18):
    """Evaluate a detector that is not trained, by LVIS's protocol."""
    cfg = tiny_config(tmp_path / 'run', mini_lvis, resnet18)
    cfg.val_dataloader.dataset.indices = 8
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    annotations = str(mini_lvis / 'annotations/lvis_v1_{}.json')
    cfg.val_evaluator = [
        dict(
            type='StratifiedLVISMetric',
            ann_file=annotations.format('val'),
            train_ann_file=annotations.format('train'),
            metric=['bbox', 'segm'],
            resamples=5,
        ),
        dict(
            type='DumpDetResults', out_file_path=str(tmp_path / 'results.pkl')
        ),
    ]
    return cfg


def test_run_writes_strata_scalars_and_results_that_agree(
    cfg, tmp_path, mini_lvis
):
    metrics = build(cfg).val()
    record = json.loads((tmp_path / 'run' / 'strata.json').read_text())
    assert record['metrics'] == {
        k: None if math.isnan(v) else v for k, v in metrics.items()
    }
    assert record['iter'] is None
    boxes = record['records'][0]
    assert boxes['num_evaluated_images'] == boxes['num_images'] == 8
    assert boxes['counts_from'].endswith('lvis_v1_train.json')
    (log,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    shown = {}
    for line in log.read_text().splitlines():
        shown |= json.loads(line)
    for x in boxes['strata']:
        key = f'lvis_strata/bbox/{x["by"]}/{x["name"]}'
        assert shown.get(key) == (None if x['by'] == 'category' else x['ap'])
    # tools that read runs find the evaluation
    assert (
        read_run(Path(cfg.work_dir)).metrics['lvis/bbox_AP']
        == (metrics['lvis/bbox_AP'])
    )
    gt = GroundTruth.read(mini_lvis / 'annotations/lvis_v1_val.json')
    dumped = read_results(tmp_path / 'results.pkl', gt)
    for kind in ('bbox', 'segm'):
        matches = match(gt, dumped, iou_type=kind, protocol='lvis')
        present = matches.num_instances() > 0
        assert matches.ap_per_class()[present].mean() == pytest.approx(
            metrics[f'lvis/{kind}_AP']
        )


def test_training_goes_on_after_an_empty_evaluation(cfg):
    cfg.model.test_cfg.rcnn.score_thr = 1.0
    cfg.val_evaluator = cfg.val_evaluator[:1]
    cfg.train_cfg.update(max_epochs=2, val_interval=1)
    cfg.train_dataloader.dataset.dataset.indices = 2
    cfg.default_hooks.checkpoint.update(
        save_best='lvis/bbox_AP', rule='greater', interval=1
    )
    runner = build(cfg)
    runner.train()
    assert runner.epoch == 2
    record = json.loads((Path(cfg.work_dir) / 'strata.json').read_text())
    assert set(record['metrics'].values()) == {None}
    assert record['iter'] == runner.iter
    assert not list(Path(cfg.work_dir).glob('best*'))


def test_outside_of_a_run_nothing_is_written(tmp_path, mini_lvis, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metric = StratifiedCocoMetric(
        str(mini_lvis / 'annotations/lvis_v1_val.json'), resamples=0
    )
    assert Evaluator(metric).evaluate(8)
    assert not list(tmp_path.iterdir())
