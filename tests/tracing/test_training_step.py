"""A step on shapes against the same step on data."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import DeformableDETRHead
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmfrozen.config_file import ZOO
from mmfrozen.cost import FlopCounter
from mmfrozen.cost.shape_mode import ShapeMode
from mmfrozen.cost.storage_tracker import SavedBytes, StorageTracker
from mmfrozen.freezing import count_parameters
from mmfrozen.freezing.components import component_namer
from mmfrozen.tracing.cuda_autocast import CudaAutocast
from mmfrozen.tracing.fake_predictions import patch_predictions
from mmfrozen.tracing.fake_targets import boxes_at, make_samples
from mmfrozen.tracing.pair import apply_change
from mmfrozen.tracing.step_optimizer import build_optimizer, fill_state
from mmfrozen.tracing.training_step import CannotTraceError, trace_step
from mmfrozen.tracing.workload import Workload, read_workload
from tests.tiny import tiny_config

WORK = Workload((128, 128), 'as set', 2, objects=4)
PROPOSALS = 20  # as tiny_config has it


@pytest.fixture(scope='module')
def cfg():
    cfg = tiny_config('-', '-', '-')
    for part in ('bbox', 'mask'):
        # without it, samples depend on which regions are drawn
        extractor = cfg.model.roi_head[f'{part}_roi_extractor']
        extractor.roi_layer.sampling_ratio = 2
    return cfg


@pytest.fixture(scope='module')
def mode():
    """What one step has found out serves the others."""
    return ShapeMode()


def zoo(name):
    return Config.fromfile(ZOO / name)


def real_step(cfg, change):
    """Do a step with data and the same numbers of regions."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model.deepcopy())
    model.train()
    apply_change(model, change)
    torch.manual_seed(0)
    patch_predictions(model, WORK.shape, proposals=PROPOSALS)
    optimizer = build_optimizer(model, cfg.optim_wrapper)
    state = fill_state(optimizer)
    images = torch.randn(2, 3, *WORK.shape)
    samples = make_samples(2, WORK.shape, objects=4, num_classes=1203)
    name = component_namer(model)
    present = [*model.parameters(), *model.buffers(), images]
    with StorageTracker() as tracker, FlopCounter(model) as counter:
        tracker.follow([*present, *state])
        with SavedBytes(present, lambda: name(counter.owner()[0])) as saved:
            losses = model(images, samples, mode='loss')
            loss, _ = model.parse_losses(losses)
        loss.backward()
        optimizer.step()
    return counter.flops(name), saved.by_owner, tracker.peak_bytes


@pytest.mark.parametrize('change', ('none', 'thaw'))
def test_step_on_shapes_costs_what_the_step_on_data_costs(cfg, mode, change):
    flops, saved, peak = real_step(cfg, change)
    step = trace_step(cfg, WORK, change=change, mode=mode)
    names = {c.name for c in step.components}
    assert {'backbone.stage 4', 'neck', 'roi_head.mask_head'} < names
    for component in step.components:
        if component.name != 'other':  # NMS: as many boxes as decode
            assert component.flops == flops[component.name], component.name
        assert component.saved_bytes == saved[component.name]
    assert step.peak_bytes == pytest.approx(peak, rel=0.01)
    assert step.rois == {'roi_head.bbox_head': (16, 4)}


def test_frozen_backbone_has_no_backward_pass_and_keeps_nothing(cfg, mode):
    step = trace_step(cfg, WORK, mode=mode)
    stages = [c for c in step.components if c.name.startswith('backbone')]
    assert [c.name for c in stages] == [
        'backbone.stem',
        *(f'backbone.stage {i}' for i in range(1, 5)),
    ]
    assert all(c.flops.forward and not c.flops.backward for c in stages)
    assert sum(c.saved_bytes + c.trainable for c in stages) == 0


def test_sums_are_those_of_the_model(cfg, mode):
    step = trace_step(cfg, WORK, change='thaw', mode=mode)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model.deepcopy())
    model.train()
    counts = count_parameters(model)
    assert step.total.parameters == counts.total
    assert step.total.trainable == counts.total
    assert step.gradient_bytes == 4 * counts.total
    assert step.optimizer_bytes == 4 * counts.total, 'momentum of SGD'
    assert sum(step.peak_parts.values()) == step.peak_bytes
    assert step.timeline[-1][0] == step.total.flops.total
    assert max(nbytes for _, nbytes in step.timeline) == step.peak_bytes


def test_regions_of_interest_can_be_set(cfg, mode):
    step = trace_step(cfg, replace(WORK, rois=12, positives=5), mode=mode)
    assert step.rois == {'roi_head.bbox_head': (12, 5)}
    full = trace_step(cfg, WORK, mode=mode)
    head = {c.name: c.flops for c in full.components}['roi_head.bbox_head']
    less = {c.name: c.flops for c in step.components}['roi_head.bbox_head']
    assert less.forward * 16 == head.forward * 12
    with pytest.raises(ValueError, match='at most the 16 sampled RoIs'):
        trace_step(cfg, replace(WORK, positives=17), mode=mode)


def test_autocast_keeps_half_the_bytes_and_a_copy_of_the_weights(cfg, mode):
    full = trace_step(cfg, WORK, change='thaw', mode=mode)
    half = trace_step(
        cfg, replace(WORK, dtype='bf16'), change='thaw', mode=mode
    )
    assert half.total.flops == full.total.flops
    activations = half.total.saved_bytes - 2 * half.total.parameters
    assert 0.4 < activations / full.total.saved_bytes < 0.7
    assert half.gradient_bytes == full.gradient_bytes


@pytest.mark.parametrize(
    'name, part',
    (
        ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 'bbox_head'),
        ('yolox/yolox_tiny_8xb8-300e_coco.py', 'bbox_head'),
        (
            'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
            'roi_head.bbox_head.5',
        ),
        (
            'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
            'encoder',
        ),
        ('solov2/solov2-light_r18_fpn_ms-3x_coco.py', 'mask_head'),
    ),
)
def test_hosts_detectors_of_every_kind_can_be_traced(mode, name, part):
    work = Workload((256, 256), 'as set', 1, objects=2)
    step = trace_step(zoo(name), work, change='freeze', mode=mode)
    flops = {c.name: c.flops for c in step.components}
    assert flops[part].backward_weight > 0
    assert not any('ms_deform_attn' in name for name in step.uncounted)
    assert not any(
        f.backward for n, f in flops.items() if n.startswith('backbone')
    )


def test_part_that_cannot_be_traced_is_named(cfg, mode, monkeypatch):
    layer = 'mmcv.ops.RoIAlign.forward'

    def fail(self, x, rois):
        raise RuntimeError('no luck')

    monkeypatch.setattr(layer, fail)
    with pytest.raises(CannotTraceError) as caught:
        trace_step(cfg, WORK, mode=mode)
    message = str(caught.value)
    assert 'no luck in the forward pass of roi_head.bbox_roi_extr' in message
    assert '\n' not in message
    assert 'count the part before with --partial' in message
    step = trace_step(cfg, WORK, partial=True, mode=mode)
    heads = ['roi_head.bbox_head', 'roi_head.mask_head']
    assert step.left_out == [*heads, 'losses']
    assert 'no luck in roi_head.bbox_roi_extractor' in step.failure
    flops = {c.name: c.flops for c in step.components}
    whole = trace_whole(cfg, mode, monkeypatch)
    for part in ('neck', 'rpn_head'):
        assert flops[part].total == whole[part].total > 0
    assert not any(flops[head].total for head in heads)


def trace_whole(cfg, mode, monkeypatch):
    monkeypatch.undo()
    step = trace_step(cfg, WORK, mode=mode)
    return {c.name: c.flops for c in step.components}


def test_partial_step_that_runs_to_its_end_is_the_whole_step(cfg, mode):
    whole = trace_step(cfg, WORK, mode=mode)
    assert trace_step(cfg, WORK, partial=True, mode=mode) == whole
    assert whole.left_out == [] and whole.failure == ''


def test_partial_step_counts_the_transformer_before_the_head_that_fails(
    mode, monkeypatch
):
    cfg = zoo('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py')
    work = Workload((128, 128), 'as set', 1, objects=2)
    whole = trace_step(cfg, work, mode=mode)

    def fail(self, *args, **options):
        raise RuntimeError('no luck')

    monkeypatch.setattr(DeformableDETRHead, 'forward', fail)
    step = trace_step(cfg, work, partial=True, mode=mode)
    assert step.left_out == ['bbox_head', 'losses']
    flops = {c.name: c.flops.total for c in step.components}
    for component in whole.components:
        if component.name in ('neck', 'encoder', 'decoder'):
            assert flops[component.name] == component.flops.total


def test_failure_before_anything_ran_is_no_partial_step(
    cfg, mode, monkeypatch
):
    def fail(self, x):
        raise RuntimeError('no luck')

    monkeypatch.setattr('mmdet.models.backbones.ResNet.forward', fail)
    with pytest.raises(CannotTraceError, match='no luck') as caught:
        trace_step(cfg, WORK, partial=True, mode=mode)
    assert '--partial' not in str(caught.value)


def rtmdet_ins():
    cfg = zoo('rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py')
    cfg.model.bbox_head.num_classes = 4  # the assigner's cost on a CPU
    return cfg


def test_memory_of_instance_masks_grows_with_the_objects(mode):
    steps = [
        trace_step(
            rtmdet_ins(),
            Workload((256, 256), 'as set', 1, objects=objects),
            mode=mode,
        )
        for objects in (8, 30, 100)
    ]
    peaks = [step.peak_bytes for step in steps]
    assert peaks == sorted(peaks) and peaks[2] > 1.5 * peaks[0]
    (name,) = steps[0].positives
    counts = [step.positives[name] for step in steps]
    assert counts[0] < counts[1] < counts[2]
    assert 3 * 100 < counts[2] < 10 * 100, 'at 256 pixels, of 13 at the most'


def test_dynamic_assigner_costs_what_it_does_on_a_trained_detectors_boxes(
    mode,
):
    cfg = rtmdet_ins()
    work = Workload((128, 128), 'as set', 1, objects=100)
    step = trace_step(cfg, work, mode=mode)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model.deepcopy())
    model.train()
    assign = model.bbox_head.assigner.assign
    chosen = []

    def assign_as_trained(predictions, objects, *args, **options):
        predictions.bboxes = boxes_at(
            predictions.priors[:, :2], objects.bboxes
        )
        result = assign(predictions, objects, *args, **options)
        chosen.append(int((result.gt_inds > 0).sum()))
        return result

    model.bbox_head.assigner.assign = assign_as_trained
    state = fill_state(build_optimizer(deepcopy(model), cfg.optim_wrapper))
    images = torch.randn(1, 3, *work.shape)
    samples = make_samples(1, work.shape, objects=100, num_classes=4)
    with StorageTracker() as tracker:
        tracker.follow([*model.parameters(), *model.buffers(), *state])
        losses = model(images, samples, mode='loss')
        model.parse_losses(losses)[0].backward()
    assert [*step.positives.values()] == pytest.approx(chosen, rel=0.1)
    assert step.peak_bytes == pytest.approx(tracker.peak_bytes, rel=0.1)


def test_detector_whose_pipeline_loads_no_masks_gets_none(mode):
    cfg = zoo('rtmdet/rtmdet_tiny_8xb32-300e_coco.py')
    work = read_workload(cfg, shape=(128, 128), batch_size=1)
    assert not work.masks
    assert trace_step(cfg, work, mode=mode).positives


class Tokens(dict):
    """As transformers' tokenizers return them; a token a character."""

    def char_to_token(self, index):
        return index


class Letters(nn.Module):
    """In place of BERT, whose vocabulary has to be downloaded."""

    max_tokens, pad_to_max = 256, False

    def __init__(self, **options):
        super().__init__()
        self.language_backbone = nn.Sequential()
        self.language_backbone.body = nn.Linear(4, 8)
        self.language_backbone.body.language_dim = 8

    def tokenizer(self, captions, **options):
        return Tokens(captions=captions)

    def forward(self, captions):
        batch, length = len(captions), 200
        embedded = self.language_backbone.body(torch.ones(batch, length, 4))
        return dict(
            embedded=embedded,
            masks=torch.eye(length).bool().repeat(batch, 1, 1),
            hidden=embedded,
            position_ids=torch.zeros(batch, length).long(),
            text_token_mask=torch.ones(batch, length).bool(),
        )


def test_detector_that_reads_text_is_given_the_classes(mode, monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'Letters', Letters)
    cfg = zoo('grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py')
    cfg.model.language_model.type = 'Letters'
    cfg.model.encoder.num_cp = 0  # asks for fairscale
    cfg.model.num_queries = 50
    work = Workload((128, 128), 'as set', 1, objects=2)
    step = trace_step(cfg, work, change='freeze', mode=mode)
    flops = {c.name: c.flops for c in step.components}
    for part in ('language_model', 'text_feat_map', 'encoder', 'decoder'):
        assert flops[part].backward_weight > 0


class NotInstalled(nn.Module):
    def __init__(self, **options):
        raise RuntimeError('transformers is not installed')


def test_missing_language_model_says_what_to_install(mode, monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'NotInstalled', NotInstalled)
    cfg = zoo('grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py')
    cfg.model.language_model.type = 'NotInstalled'
    cfg.model.encoder.num_cp = 0
    with pytest.raises(CannotTraceError) as caught:
        trace_step(cfg, WORK, partial=True, mode=mode)
    message = str(caught.value)
    assert 'download what model.language_model.name names' in message
    assert '--partial' not in message and '\n' not in message


def test_model_that_does_not_build_is_refused(cfg, mode):
    broken = Config(cfg.to_dict())
    broken.model.neck.type = 'NoSuchNeck'
    with pytest.raises(CannotTraceError, match='NoSuchNeck.*build of model'):
        trace_step(broken, WORK, mode=mode)


def test_autocast_keeps_in_fp32_what_it_keeps_on_gpus():
    x = torch.rand(1, 4, 8, 8, dtype=torch.bfloat16)
    norm = torch.nn.GroupNorm(2, 4)
    with torch.autocast('cpu', torch.bfloat16), CudaAutocast():
        for function in (
            lambda: F.interpolate(x, scale_factor=2),
            lambda: x.softmax(dim=1),
            lambda: torch.softmax(x, dim=1),
            lambda: x**2,
            lambda: norm(x),
            lambda: F.layer_norm(x, (8,)),
        ):
            assert function().dtype == torch.float32
        assert F.conv2d(x, torch.rand(4, 4, 1, 1)).dtype == torch.bfloat16
        assert (x + x).dtype == F.silu(x).dtype == torch.bfloat16
    with CudaAutocast():
        assert F.interpolate(x, scale_factor=2).dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_functions_that_are_cast_are_those_of_cuda():
    x = torch.rand(1, 4, 8, 8, dtype=torch.bfloat16, device='cuda')
    with torch.autocast('cuda', torch.bfloat16):
        assert F.interpolate(x, scale_factor=2).dtype == torch.float32
        assert x.softmax(dim=1).dtype == (x**2).dtype == torch.float32
