"""Every config of the pack: names, states, controls, heads."""

import re

import pytest
import timm
from mmengine.registry import Registry
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mmfrozen import registry
from mmfrozen.freezing import count_parameters, find_faults

from .pack import (
    BACKBONES,
    CONFIGS,
    CONTROLS,
    DATA,
    DETECTORS,
    FROZEN,
    LOSSES,
    NECKS,
    PACK,
    SCHEDULES,
    THAWED,
    build,
    find,
    flat,
    inner,
    load,
    slots,
    state,
)

#: Differences that the states may have from the experiment.
STATE_KEYS = re.compile(
    r'model\.backbone\.(frozen_stages|norm_eval|norm_cfg|frozen|init_cfg'
    r'|backbone\.(init_cfg|norm_cfg|sync_bn))'
    r'|default_hooks\.frozen_guard\.state'
)
PHASE_KEYS = re.compile(
    r'load_from|max_epochs|train_cfg\.max_epochs|param_scheduler'
    r'|optim_wrapper\.optimizer\.lr'
)


def named(paths):
    return pytest.mark.parametrize(
        'path', paths, ids=lambda p: f'{p.parent.name}/{p.stem}'
    )


def test_every_experiment_has_both_controls_and_the_other_way_round():
    names = {
        s: {p.name for p in CONFIGS if state(p) == s}
        for s in ('frozen', 'finetuned', 'scratch')
    }
    assert len(names['frozen']) >= 50
    assert names['frozen'] == names['finetuned'] == names['scratch']
    others = {p.parent.name for p in CONFIGS} - names.keys()
    assert others == {'thawed'}, 'second phases are no controls'


def as_guarded(path):
    adapters = state(path) == 'frozen' and slots(path)['adapters']
    return 'partial' if adapters else state(path)


@named(FROZEN)
def test_experiment_builds_frozen(path):
    model = build(path)
    backbone = model.backbone
    assert load(path).default_hooks.frozen_guard.state == as_guarded(path)
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad}
    if slots(path)['adapters']:
        assert trained
        assert all(name.startswith('adapters.') for name in trained)
    else:
        assert find_faults(backbone) == []
    rest = count_parameters(model).trainable - len(trained)
    assert rest > 0
    image_by_image = [
        name
        for name, module in model.named_modules()
        if getattr(module, 'fallback_reason', None)
    ]
    assert image_by_image == []


@named(CONTROLS + THAWED)
def test_control_trains_every_stage(path):
    cfg = load(path)
    assert cfg.default_hooks.frozen_guard.state == as_guarded(path)
    backbone = cfg.model.backbone
    assert backbone.get('frozen_stages', -1) == -1
    assert backbone.get('frozen', False) is False
    init_cfg = inner(path).get('init_cfg')
    assert bool(init_cfg) == (state(path) != 'scratch')


@named(CONTROLS)
def test_control_has_the_statistics_that_its_batch_allows(path):
    """Over the batch where that is large, else the classifier's."""
    cfg = load(path)
    large = cfg.auto_scale_lr.base_batch_size >= 64
    normed = slots(path)['backbone'] in ('r50', 'r101', 'rs101', 'b7', 'b7-ns')
    if state(path) == 'finetuned' and not large:
        assert cfg.model.backbone.norm_eval is True
    else:
        assert cfg.model.backbone.norm_eval is False
    synced = inner(path).get('sync_bn') or (
        inner(path).get('norm_cfg', {}).get('type') == 'SyncBN'
    )
    assert bool(synced) == (large and normed)


@named(CONFIGS)
def test_name_says_what_is_built(path):
    name, cfg = slots(path), load(path)
    model = cfg.model
    heads = model.type, model.get('roi_head', {}).get('type')
    assert heads == DETECTORS[name['detector']]
    assert model.neck.type == NECKS[name['neck']]
    assert (model.neck.out_channels == 512) == (name['neck'] == 'wide-fpn')
    classifier = inner(path)
    kind, source = BACKBONES[name['backbone']]
    assert kind in (classifier.type, classifier.get('model_name'))
    if state(path) != 'scratch':
        assert classifier.init_cfg.checkpoint == source
    assert ('adapters' in model.backbone) == bool(name['adapters'])
    roi_head = model.get('roi_head', {})
    assert bool(roi_head.get('mask_head')) == ('mask' in name['detector'])
    assert set(find(model, 'with_mask')) <= {True}
    _check_data(name, cfg)
    _check_schedule(name, cfg)


@named(FROZEN)
def test_images_are_normalised_as_the_classifier_knows_them(path):
    name, cfg = slots(path), load(path)
    classifier, preprocessor = inner(path), cfg.model.data_preprocessor
    assert preprocessor.bgr_to_rgb is True
    source = classifier.init_cfg.checkpoint
    if source.startswith('timm://'):
        trained = timm.get_pretrained_cfg(source.removeprefix('timm://'))
        assert trained.architecture == classifier.model_name
        mean, std = trained.mean, trained.std
    elif name['backbone'] == 'lite0':
        mean, std = [127 / 255] * 3, [128 / 255] * 3
    else:  # torchvision's
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    assert preprocessor.mean == pytest.approx([255 * x for x in mean])
    assert preprocessor.std == pytest.approx([255 * x for x in std])


def _check_data(name, cfg):
    root, num_classes = DATA[name['dataset']]
    assert cfg.val_dataloader.dataset.data_root == root
    assert cfg.val_dataloader == cfg.test_dataloader
    assert cfg.val_evaluator == cfg.test_evaluator
    assert set(find(cfg.train_dataloader.to_dict(), 'data_root')) == {root}
    assert cfg.val_evaluator.ann_file.startswith(root)
    assert set(find(cfg.model, 'num_classes')) == {num_classes}
    masks = 'mask' in name['detector']
    assert cfg.val_evaluator.metric == (['bbox', 'segm'] if masks else 'bbox')
    with_mask = find(cfg.train_dataloader.to_dict(), 'with_mask')
    assert bool(with_mask and all(with_mask)) == masks
    size = 1280 if 'cascade' in name['detector'] else 1024
    if name['backbone'] == 'lite0':
        size = 256 if name['dataset'] == 'mini-lvis' else 512
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        leaves = flat(loader.to_dict())
        scales = {v for k, v in leaves.items() if re.search(r'\.scale\.', k)}
        assert scales == {size}, 'pipelines are of one size'
    copies = cfg.train_dataloader.dataset.type == 'mmfrozen.CopyPasteDataset'
    assert copies == bool(name['augmentation'])
    thresholds = find(cfg.train_dataloader.to_dict(), 'oversample_thr')
    if 'lvis' in name['dataset']:
        assert (thresholds == [0]) == (name['sampling'] == 'uniform')
    leaves = flat(cfg.train_dataloader.dataset.to_dict())
    instance_aware = 'mmfrozen.InstanceAwareRepeatFactorDataset'
    assert (instance_aware in leaves.values()) == (name['sampling'] == 'irfs')


def _check_schedule(name, cfg):
    if name['backbone'] == 'lite0':
        assert cfg.train_cfg.type == 'mmfrozen.ResumableIterBasedTrainLoop'
    elif cfg.default_hooks.frozen_guard.state != 'thawed':
        assert cfg.train_cfg.max_epochs == SCHEDULES[name['schedule']]


@named(FROZEN)
def test_name_says_which_heads_are_built(path):
    name = slots(path)
    roi_head = load(path).model.get('roi_head')
    if roi_head is None:
        assert name['heads'] is None
        return
    rpn = load(path).model.rpn_head
    boxes = roi_head.bbox_head
    cascade = isinstance(boxes, list)
    for box in boxes if cascade else [boxes]:
        assert box.loss_cls.type == LOSSES[name['loss']]
        layers = box.get('num_shared_convs'), box.get('num_shared_fcs')
        assert layers == {
            '2fc': (0, 2),
            '4conv1fc': (4, 1),
            'rpn2-4conv1fc': (4, 1),
        }.get(name['heads'], (0 if 'lite0' in path.stem else 4, 2))
        wide = (box.get('conv_out_channels'), box.fc_out_channels)
        assert (wide == (512, 2048)) == (name['heads'] == 'wide-heads')
    assert (rpn.get('num_convs', 1) == 2) == (
        name['heads'] == 'rpn2-4conv1fc' or name['backbone'][:2] == 'b7'
    )
    if cascade:
        stages = 2 if name['heads'] == '2-stage' else 3
        rcnn = load(path).model.train_cfg.rcnn
        assert len(boxes) == len(rcnn) == roi_head.num_stages == stages
        assert sum(roi_head.stage_loss_weights) == pytest.approx(1)


@named(CONTROLS + THAWED)
def test_control_differs_from_its_experiment_in_nothing_but_the_state(path):
    ours = flat(load(path).to_dict())
    theirs = flat(load(PACK / 'frozen' / path.name).to_dict())
    differ = {
        k
        for k in ours.keys() | theirs.keys()
        if ours.get(k, 'absent') != theirs.get(k, 'absent')
    }
    if state(path) == 'thawed':  # a schedule of its own, from a checkpoint
        differ = {k for k in differ if not PHASE_KEYS.match(k)}
    assert [k for k in differ if not STATE_KEYS.match(k)] == []
    assert differ


@named(CONFIGS)
def test_at_most_three_hops_inside_the_repository(path):
    def hops(file):
        text = file.read_text()
        found = re.search(r'^_base_ = (\[.*?\]|.*?)$', text, re.M | re.S)
        bases = re.findall(r"'([^']+)'", found[1]) if found else []
        inside = [b for b in bases if '::' not in b]
        return max((1 + hops(file.parent / b) for b in inside), default=0)

    assert hops(path) <= 3


@named(CONFIGS)
def test_head_says_what_it_tests_and_how_to_run_it(path):
    head = path.read_text().split('"""')[1]
    command = re.sub(r'\\\\\s+', '', head)
    assert f'mim train mmdet configs/{state(path)}/{path.name}' in command
    if 'lite0' not in path.name:  # those are for CPUs
        assert 'not run' in head
        cfg = load(path)
        cards, images = re.search(r'(\d+) GPUs? x (\d+) images', head).groups()
        assert int(images) == cfg.train_dataloader.batch_size
        batch = int(cards) * int(images)
        assert batch == cfg.auto_scale_lr.base_batch_size


def test_names_that_others_may_have_are_said_with_our_scope():
    plain = {
        name
        for part in vars(registry).values()
        if isinstance(part, Registry)
        for name, cls in part.root.module_dict.items()
        if cls.__module__.startswith('mmfrozen.')
    }
    assert len(plain) > 10
    seen = set()
    for path in CONFIGS:
        leaves = flat(load(path).to_dict()).items()
        types = {v for k, v in leaves if k.rpartition('.')[2] == 'type'}
        assert not types & plain, path
        seen |= {t.removeprefix('mmfrozen.') for t in types} & plain
    assert len(seen) > 5


def test_pipelines_in_the_loaders_are_the_top_level_ones():
    for path in FROZEN:
        cfg = load(path)
        dataset, pasting = cfg.train_dataloader.dataset, []
        if dataset.type == 'mmfrozen.CopyPasteDataset':
            dataset, pasting = dataset.dataset, dataset.pipeline
        while 'pipeline' not in dataset:
            dataset = dataset.dataset
        number = len(dataset.pipeline)
        assert dataset.pipeline == cfg.train_pipeline[:number], path.stem
        after = cfg.train_pipeline[number:]
        assert after == pasting[len(pasting) - len(after) :], path.stem
        assert cfg.val_dataloader.dataset.pipeline == cfg.test_pipeline


def test_no_fragment_is_left_over():
    fragments = set((PACK / 'frozen/_base_').rglob('*.py'))
    used = set()
    for path in (*FROZEN, *fragments):
        for base in re.findall(r"'(\.[^']*\.py)'", path.read_text()):
            used.add((path.parent / base).resolve())
    assert fragments <= used


def test_classes_of_own_data_are_changed_in_one_place(tmp_path):
    own = PACK / 'frozen/mask_rcnn_rs101_12e_own.py'
    text = own.read_text()
    text = text.replace("('cat', 'dog')", "('a', 'b', 'c')")
    text = text.replace("'data/own/'", "'elsewhere/'")
    text = text.replace('./_base_', str(PACK / 'frozen/_base_'))
    changed = tmp_path / 'mine.py'
    changed.write_text(text)
    cfg = load(changed)
    assert set(find(cfg.model, 'num_classes')) == {3}
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.metainfo.classes == ('a', 'b', 'c')
        assert loader.dataset.data_root == 'elsewhere/'
    assert cfg.val_evaluator.ann_file == 'elsewhere/val.json'
    assert 'data/own' not in str(cfg.model) + str(cfg.train_dataloader)
