"""Each is frozen, described, traced, trained in both states and verified."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import CheckpointLoader

from mmfrozen.freeze_config import control_path, freeze_config
from mmfrozen.freezing import describe
from mmfrozen.hooks.checkpoint.resume_from import why_broken
from mmfrozen.loops import ResumableEpochBasedTrainLoop
from mmfrozen.reports.verify import verify
from mmfrozen.runner import CheckedRunner
from mmfrozen.tracing.pair import find_pair
from mmfrozen.tracing.trace_pair import trace_pair
from mmfrozen.tracing.training_step import trace_step
from mmfrozen.tracing.workload import Workload
from tests.tiny import build

from .configs import NESTED, REFUSED, WORKS, torchvision_body

WORK = Workload(shape=(64, 64), shape_source='test', batch_size=2, objects=2)


def write(workspace, name, text):
    """Write a config and where its frozen one goes."""
    stem = name.replace(' ', '_').replace(',', '').replace('-', '_')
    path = workspace / f'{stem}.py'
    path.write_text(f"_base_ = './base.py'\n{text}\n")
    return path, workspace / 'frozen' / path.name


def train(path, folder):
    """Two steps, by the runner that mim starts."""
    cfg = Config.fromfile(path)
    cfg.work_dir = str(folder)
    build(cfg).train()
    return json.loads(Path(folder, 'backbone.json').read_text())


def through_all(source, out, folder):
    """Freeze, describe, trace, train and verify."""
    freeze_config(source, out)
    control = control_path(out)
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert describe(MODELS.build(Config.fromfile(out).model))
    savings = trace_pair(find_pair(str(out)), WORK)
    frozen = train(out, folder / 'frozen')
    assert frozen['backbone']['trainable'] == 0
    finetuned = train(control, folder / 'finetuned')
    assert finetuned['backbone']['trainable'] > 0
    assert frozen['classifier'] == finetuned['classifier']
    (checkpoint,) = Path(folder, 'frozen').glob('*.pth')
    weights = source.parent / 'r18.pth'
    assert verify(str(checkpoint), str(weights)).changed == []
    return [side.step.total.flops.total for side in savings.sides]


@pytest.mark.parametrize('name', WORKS)
def test_config_of_another_workspace_goes_through_every_command(
    name, workspace, tmp_path
):
    source, out = write(workspace, name, WORKS[name])
    frozen, finetuned = through_all(source, out, tmp_path)
    assert 0 < frozen < finetuned


def test_detector_in_a_detector_keeps_its_classifier(workspace, tmp_path):
    source, out = write(workspace, 'nested', NESTED)
    freeze_config(source, out)
    savings = trace_pair(find_pair(str(out)), WORK)
    frozen, control = (side.step.total for side in savings.sides)
    assert frozen.trainable < control.trainable
    cfg = Config.fromfile(out)
    cfg.work_dir = str(tmp_path)
    build(cfg).train()
    trained = CheckpointLoader.load_checkpoint(f'{tmp_path}/epoch_1.pth')
    classifier = torch.load(workspace / 'r18.pth')
    compared = 0
    for name, tensor in trained['state_dict'].items():
        if name.startswith('detector.backbone.'):
            source = classifier[name.removeprefix('detector.backbone.')]
            assert torch.equal(tensor, source), name
            compared += 1
    assert compared == len(classifier) - 2  # without the last layer


def test_config_made_reliable_trains_and_keeps_whole_checkpoints(
    workspace, tmp_path
):
    source, out = write(workspace, 'reliable', '')
    freeze_config(source, out, reliable=True)
    cfg = Config.fromfile(out)
    cfg.work_dir = str(tmp_path)
    cfg.visualizer.name = cfg.experiment_name = 'reliable'
    runner = RUNNERS.build(cfg)
    runner.train()
    assert isinstance(runner, CheckedRunner)
    assert isinstance(runner.train_loop, ResumableEpochBasedTrainLoop)
    assert runner.iter == 2
    assert {'SafeCheckpointHook', 'NonFiniteHook'} <= {
        type(hook).__name__ for hook in runner.hooks
    }
    assert why_broken(tmp_path / 'epoch_1.pth') is None


def test_dump_of_a_resolved_config_goes_through_every_command(
    workspace, tmp_path
):
    folder = workspace / 'dumps'
    folder.mkdir()
    (folder / 'r18.pth').write_bytes((workspace / 'r18.pth').read_bytes())
    source = folder / 'dump.py'
    Config.fromfile(workspace / 'base.py').dump(source)
    frozen, finetuned = through_all(
        source, folder / 'frozen' / source.name, tmp_path
    )
    assert 0 < frozen < finetuned


@pytest.mark.parametrize('name', REFUSED)
def test_config_that_cannot_be_right_is_refused_in_one_line(
    name, workspace, tmp_path
):
    text, words = REFUSED[name]
    source, out = write(workspace, name, text)
    with pytest.raises(Exception) as caught:
        through_all(source, out, tmp_path)
    line = str(caught.value)
    assert '\n' not in line, line
    for word in words:
        assert word in line, line


def test_wrappers_without_gradients_cost_what_they_compute(workspace):
    costs = []
    for kind in ('TorchvisionBody', 'UnderNoGrad', 'UnderInferenceMode'):
        source, _ = write(workspace, f'cost of {kind}', torchvision_body(kind))
        cfg = Config.fromfile(source)
        costs.append(trace_step(cfg, WORK).total.flops.forward)
    assert costs[0] == costs[1] == costs[2] > 1e8
