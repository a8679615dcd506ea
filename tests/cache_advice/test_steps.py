"""The three ways of a step compute the same, and real steps are timed."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from torch.utils._pytree import tree_leaves

from mmfrozen.cache_advice.data import build_dataset, count_images
from mmfrozen.cache_advice.steps import WAYS, Ways, measure_steps
from mmfrozen.steps_in_turn import Stepper, load_batches
from mmfrozen.tracing.workload import read_workload
from tests.tiny import tiny_config


@pytest.fixture
def cfg(tmp_path, mini_lvis, resnet18):
    return tiny_config(tmp_path, mini_lvis, resnet18)


def test_loader_without_a_batch_is_refused(cfg):
    init_default_scope('mmdet')
    cfg.train_dataloader.update(batch_size=1000, drop_last=True)
    cfg.train_dataloader.pop('batch_sampler', None)
    with pytest.raises(ValueError, match='at least one batch, got .none of'):
        next(load_batches(cfg))


def test_features_of_all_ways_are_the_same(cfg):
    init_default_scope('mmdet')
    stepper = Stepper(cfg, None, engine=False)
    ways = Ways(stepper, torch.float16, print)
    batch = next(load_batches(cfg))
    assert ways.prepare(batch) > 0
    found = {}
    for way in WAYS:
        ways.use(way)
        data = stepper.model.data_preprocessor(copy.deepcopy(batch), True)
        found[way] = tree_leaves(stepper.model.backbone(data['inputs']))
    for way in ('engine', 'cache'):
        for level, wanted in zip(found[way], found['plain'], strict=True):
            assert level.dtype == wanted.dtype
            assert (level - wanted).norm() <= 1e-2 * wanted.norm()
    assert data['inputs'].isnan().all()  # no image is looked at
    assert data['inputs'].shape == (2, 3, 64, 64)
    assert data['data_samples'][0].batch_input_shape == (64, 64)


def test_steps_of_all_ways_are_timed_on_images_that_are_made_up(cfg):
    measured = measure_steps(cfg, read_workload(cfg), None, num_steps=2)
    assert all(measured.steps[way].num == 2 for way in WAYS)
    assert all(measured.steps[way].lower > 0 for way in WAYS)
    assert min(measured.cpu.values()) > 0 and measured.forward > 0
    assert measured.load is None  # nothing was loaded
    assert 'backbone at 2 x 3 x 64 x 64' in measured.engine


def test_images_that_are_drawn_twice_are_counted_once(cfg):
    cfg.train_dataloader.dataset.oversample_thr = 1.0
    dataset = build_dataset(cfg)
    assert count_images(dataset) == 4 < len(dataset)


def test_data_set_that_is_not_there_is_none(cfg, tmp_path):
    cfg.train_dataloader.dataset.dataset.data_root = str(tmp_path / 'no')
    assert build_dataset(cfg) is None


def test_images_of_another_size_are_refused(cfg):
    work = read_workload(cfg, shape=(32, 32))
    with pytest.raises(ValueError, match='32 x 32 pixels.*got 64 x 64'):
        measure_steps(cfg, work, build_dataset(cfg), num_steps=2)
