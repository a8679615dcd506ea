"""Training on a cache in real runs."""

import copy
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook

from mmfrozen.config_file import build_train_dataset
from mmfrozen.feature_cache import (
    CachedTraining,
    FeatureStore,
    Images,
    fill,
)
from mmfrozen.feature_cache.forward import Forwarder, build_model
from mmfrozen.hooks import FeatureCacheHook
from mmfrozen.hooks.non_finite.diagnosis import Batch, diagnose
from mmfrozen.seeds import NumberedIndex, seeded
from tests.tiny import build, tiny_config


@pytest.fixture(scope='module')
def cached(tmp_path_factory, mini_lvis, resnet18):
    """A config, and the cache of two views of each of its four images."""
    folder = tmp_path_factory.mktemp('cache')
    config = tiny_config(folder / 'run', mini_lvis, resnet18)
    fill(config, folder / 'cache', views=2, storage='fp32', say=len)
    return config, folder / 'cache'


class FreshViews:
    """Computes the views that a cache would have had."""

    def __init__(self, dataset, num_views=2):
        self.dataset, self.num_views = dataset, num_views
        self.images = Images(dataset)

    def view(self, image, number):
        key = 0, int(self.images.digests[image], 16), number
        place = self.images.places[image]
        with seeded(NumberedIndex(place, key)):
            return self.dataset[place]

    def __call__(self, indices):
        samples = []
        for index in indices:
            with seeded(index):
                number = np.random.randint(self.num_views)
            samples.append(self.view(self.images.rows[index], number))
        return samples


class Watch(Hook):
    """Notes losses, and when the backbone itself ran; trains on fresh views
    of the images if told to."""

    priority = 'LOWEST'

    def __init__(self, is_fresh=False):
        self.is_fresh = is_fresh
        self.losses, self.calls = [], []

    def before_train(self, runner):
        backbone = runner.model.backbone
        backbone.layer1.register_forward_hook(
            lambda *_: self.calls.append(runner.model.training)
        )
        if self.is_fresh:
            dataset = runner.train_loop.dataloader.dataset
            dataset.__getitems__ = FreshViews(dataset)

    def after_train_iter(self, runner, *_, outputs=None, **__):
        self.losses.append(
            {k: torch.as_tensor(v).item() for k, v in outputs.items()}
        )


def train(cfg, folder, **options):
    """A run, its watch and what it said."""
    watch, lines = Watch(is_fresh=folder is None), []
    hook = dict(type='mmfrozen.FeatureCacheHook', folder=str(folder))
    cfg.custom_hooks = [] if folder is None else [hook | options]
    cfg.log_level = 'INFO'
    runner = build(cfg)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.register_hook(watch)
    runner.train()
    return runner, watch, [x for x in lines if 'FeatureCacheHook' in x]


def test_a_run_on_a_cache_is_the_run_on_the_same_views(
    cached, tmp_path, mini_lvis, resnet18
):
    runs = []
    for name, folder in (('fresh', None), ('cached', cached[1])):
        cfg = tiny_config(tmp_path / name, mini_lvis, resnet18)
        cfg.train_cfg.update(max_epochs=2, val_interval=2)
        runs.append((cfg, *train(cfg, folder)))
    (_, _, fresh, _), (cfg, runner, watch, lines) = runs
    assert len(watch.losses) == len(fresh.losses) == 4
    for losses, others in zip(watch.losses, fresh.losses, strict=True):
        assert losses == pytest.approx(others, rel=1e-3, abs=1e-4)
    # no backbone in training; the plain one in validation
    assert fresh.calls.count(True) == 4
    assert watch.calls == [False, False]
    for part in (runner.model.backbone, runner.model.data_preprocessor):
        assert 'forward' not in vars(part)
    [line] = [x for x in lines if 'trains on' in x]
    assert '2 views of each of 4 images' in line
    # the other hooks have done their work
    record = json.loads(Path(cfg.work_dir, 'backbone.json').read_text())
    assert record['verified_iter'] == 4
    [cost] = json.loads(Path(cfg.work_dir, 'step_cost.json').read_text())
    assert cost['batch_shape'] == [2, 64, 64]


def test_stock_loops_with_workers_and_an_engine_train_on_a_cache(
    cached, config
):
    config.default_hooks.engine = dict(type='mmfrozen.FrozenEngineHook')
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    config.train_dataloader.update(num_workers=1)
    config.train_dataloader.sampler = dict(type='InfiniteSampler')
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    _, watch, _ = train(config, cached[1], resident=False)
    assert len(watch.losses) == 2 and not watch.calls


def stock(model):
    model.type = 'MaskRCNN'
    model.data_preprocessor.type = 'DetDataPreprocessor'
    model.rpn_head.type = 'RPNHead'
    for name in ('norm_cfg', 'act_cfg'):
        model.rpn_head.pop(name, None)
    model.roi_head.type = 'StandardRoIHead'


def retinanet(model):
    model.pop('roi_head')
    model.pop('rpn_head')
    model.type = 'RetinaNet'
    model.data_preprocessor.type = 'DetDataPreprocessor'
    model.bbox_head = dict(
        type='RetinaHead',
        num_classes=1203,
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
    )
    model.train_cfg = dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
        ),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    )
    model.test_cfg = dict(nms_pre=10)


@pytest.mark.parametrize('change', [stock, retinanet])
def test_other_detectors_have_the_losses_of_the_same_views(cached, change):
    config = copy.deepcopy(cached[0])
    change(config.model)
    model = build_model(config)
    dataset = build_train_dataset(config)
    fresh = FreshViews(dataset)
    store = FeatureStore(cached[1])
    places = store.places(fresh.images, 2)
    wanted = _losses(model, [fresh.view(i, 1) for i in (0, 3)])
    training = CachedTraining(
        model, dataset, store, places[:, 1:], fresh.images.rows
    )
    found = _losses(model, dataset.__getitems__([0, 3]))
    training.remove()
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert not hasattr(dataset, '__getitems__')


def _losses(model, samples):
    torch.manual_seed(0)
    batch = model.data_preprocessor(pseudo_collate(samples), True)
    losses = model(**batch, mode='loss')
    return {
        name: (sum(v) if isinstance(v, list) else v).item()
        for name, v in losses.items()
    }


@pytest.fixture
def runner(cached, tmp_path_factory):
    """A runner that is about to train."""
    config = copy.deepcopy(cached[0])
    config.work_dir = str(tmp_path_factory.mktemp('runner'))
    built = build(config)
    built._train_loop = built.build_train_loop(built._train_loop)
    built.optim_wrapper = built.build_optim_wrapper(built.optim_wrapper)
    built.model.init_weights()
    built.model.train()
    return built


def begin(runner, folder, **options):
    hook = FeatureCacheHook(str(folder), **options)
    hook.before_train(runner)
    return hook


def batch_of(runner, indices=(0, 1)):
    dataset = runner.train_loop.dataloader.dataset
    return pseudo_collate(dataset.__getitems__(list(indices)))


@pytest.mark.parametrize('resident', ['auto', 'ram', 'gpu', False])
def test_wherever_features_lie_they_are_those_of_the_view(
    cached, runner, resident
):
    hook = begin(runner, cached[1], views=1, resident=resident)
    model = runner.model
    images = model.data_preprocessor(batch_of(runner), True)['inputs']
    assert images.shape == (2, 3, 64, 64) and images.isnan().all()
    found = model.backbone(images)
    hook.after_train(runner)
    fresh = FreshViews(runner.train_loop.dataloader.dataset)
    batch = pseudo_collate([fresh.view(i, 0) for i in (0, 1)])
    wanted = Forwarder(model)(batch).levels
    assert isinstance(found, tuple) and len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_features_have_the_dtype_of_autocast(cached, runner):
    begin(runner, cached[1])
    images = runner.model.data_preprocessor(batch_of(runner), True)['inputs']
    with torch.autocast('cpu', torch.bfloat16):
        found = runner.model.backbone(images)
    assert {x.dtype for x in found} == {torch.bfloat16}


def test_the_view_follows_from_the_draw_alone(cached, runner):
    begin(runner, cached[1])
    views = runner.train_loop.dataloader.dataset.__getitems__

    def places(draws):
        indices = [NumberedIndex(1, (0, 0, draw)) for draw in draws]
        return [tuple(s['inputs'].tolist()) for s in views(indices)]

    found = places(range(20))
    assert places([7, 3]) == [found[7], found[3]]
    assert len(set(found)) == 2


def test_copies_of_the_model_run_plainly(cached, runner):
    hook = begin(runner, cached[1])
    twin = copy.deepcopy(runner.model)
    hook.after_train(runner)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = runner.model.backbone(images)
        for a, b in zip(twin.backbone(images), wanted, strict=True):
            assert torch.equal(a, b)


def damage(folder):
    [path] = folder.glob('*.safetensors')
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(folder):
    [path] = folder.glob('*.safetensors')
    path.write_bytes(path.read_bytes()[:-7])


def empty(folder):
    [path] = folder.glob('*.safetensors')
    path.unlink()


@pytest.mark.parametrize(
    'change, options, words',
    [
        (damage, dict(resident='ram'), 'got other bits in view'),
        (cut, dict(), 'must be a complete shard'),
        (empty, dict(), 'must hold 1 views of each of 4 images'),
        (len, dict(views=3), 'must hold 3 views of each.*fewer of 4'),
        (shutil.rmtree, dict(), 'must be a folder with cache.json'),
    ],
)
def test_a_cache_that_is_not_whole_is_refused(
    cached, runner, tmp_path, change, options, words
):
    folder = tmp_path / 'cache'
    shutil.copytree(cached[1], folder)
    change(folder) if change is not len else None
    with pytest.raises((ValueError, OSError), match=words) as found:
        begin(runner, folder, **options)
    assert '\n' not in str(found.value)
    assert 'forward' not in vars(runner.model.backbone)


def test_a_flipped_bit_is_found_when_its_view_is_drawn(
    cached, runner, tmp_path
):
    folder = tmp_path / 'cache'
    shutil.copytree(cached[1], folder)
    damage(folder)
    begin(runner, folder, resident=False)
    with pytest.raises(ValueError, match='got other bits in view'):
        for _ in range(20):
            batch_of(runner, range(4))


def test_weights_of_another_classifier_are_refused(cached, runner):
    with torch.no_grad():
        runner.model.backbone.bn1.bias += 1
    with pytest.raises(ValueError, match='other weights of the backbone'):
        begin(runner, cached[1])


def test_weights_that_change_while_training_end_the_run(cached, runner):
    hook = begin(runner, cached[1])
    hook.before_train_iter(runner, 0)
    with torch.no_grad():
        runner.model.backbone.conv1.weight += 1
    with pytest.raises(RuntimeError, match='got others during training'):
        hook.before_train_iter(runner, 1)


def test_what_is_no_batch_of_the_cache_is_not_mistaken_for_one(cached, runner):
    begin(runner, cached[1])
    model = runner.model
    images = model.data_preprocessor(batch_of(runner), True)['inputs']
    with pytest.raises(RuntimeError, match='as it leaves the data prep'):
        model.backbone(images.clone())  # as a CUDA graph does
    with pytest.raises(
        ValueError, match='must only be trained on, got a test'
    ):
        model.data_preprocessor(batch_of(runner), False)


def test_pixels_that_are_not_there_are_no_fault(cached, runner):
    begin(runner, cached[1])
    batch = Batch(1, batch_of(runner), dict(loss=torch.tensor(torch.nan)))
    assert diagnose(runner, [batch], [], '').found_in == ''
    batch.data['data_samples'][0].gt_instances.bboxes[:] = torch.inf
    assert diagnose(runner, [batch], [], '').found_in == 'boxes'


@pytest.mark.parametrize(
    ('hook', 'words'),
    [
        (
            dict(
                type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=[]
            ),
            'must have one pipeline .* got PipelineSwitchHook',
        ),
        (dict(type='mmfrozen.CUDAGraphHook'), 'must have no CUDAGraphHook'),
    ],
    ids=['pipeline', 'graph'],
)
def test_hooks_that_need_images_are_refused(cached, runner, hook, words):
    runner.register_hook(hook)
    with pytest.raises(ValueError, match=words):
        begin(runner, cached[1])


def test_a_model_without_a_backbone_is_refused(cached, runner):
    runner.model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="with a backbone, got 'Linear'"):
        begin(runner, cached[1])


def test_a_backbone_that_trains_is_given_images(cached, runner):
    """Controls inherit the hook."""
    backbone = runner.model.backbone
    backbone.frozen_stages = 1
    backbone.layer2.requires_grad_(True)
    warnings = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    runner.logger.addHandler(handler)
    begin(runner, cached[1])
    [line] = warnings
    assert 'require grad' in line and 'trains on images instead' in line
    dataset = runner.train_loop.dataloader.dataset
    assert type(dataset.__getitems__).__name__ == 'SeededGetItems'
    assert 'forward' not in vars(runner.model.backbone)


@pytest.mark.parametrize(
    'option', [dict(views=0), dict(resident='disk'), dict(views=True)]
)
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match='FeatureCacheHook.* must be'):
        FeatureCacheHook('folder', **option)
