"""Every config of the pack."""

import re

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from mmfrozen.freezing import count_parameters, find_faults
from tests.tiny import ROOT

CONFIGS = sorted((ROOT / 'configs').glob('*/*.py'))
NAME = re.compile(
    r'(?P<detector>mask_rcnn)_(?P<backbone>r101|lite0)'
    r'(_(?P<neck>fpn))?_(?P<dataset>lvis|coco|mini-lvis)'
)
#: A thawed run is guarded as a fine-tuned one.
GUARDED = {'thawed': 'finetuned'}
#: Differences that the states may have from the experiment.
STATE_KEYS = re.compile(
    r'model\.backbone\.(frozen_stages|norm_eval|norm_cfg|frozen|init_cfg'
    r'|backbone\.init_cfg)|default_hooks\.frozen_guard\.state'
)
PHASE_KEYS = re.compile(
    r'load_from|max_epochs|train_cfg\.max_epochs|param_scheduler'
    r'|optim_wrapper\.optimizer\.lr'
)


def load(path):
    return Config.fromfile(path)


def state(path):
    return path.parent.name


def flat(value, key=''):
    """Leaves of a config by dotted key."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, (list, tuple))
        else None
    )
    if items is None or not value:
        return {key: value}
    return {
        k: v
        for name, child in items
        for k, v in flat(child, f'{key}.{name}' if key else str(name)).items()
    }


def test_every_experiment_has_both_controls_and_the_other_way_round():
    names = {
        s: {p.name for p in CONFIGS if state(p) == s}
        for s in ('frozen', 'finetuned', 'scratch')
    }
    assert len(names['frozen']) >= 3
    assert names['frozen'] == names['finetuned'] == names['scratch']
    others = {p.parent.name for p in CONFIGS} - names.keys()
    assert others == {'thawed'}, 'second phases are no controls'


@pytest.fixture(params=CONFIGS, ids=lambda p: f'{p.parent.name}/{p.stem}')
def path(request):
    return request.param


def test_config_builds_in_the_state_of_its_folder(path):
    cfg = load(path)
    model = MODELS.build(cfg.model).train()
    counts = count_parameters(model.backbone)
    assert cfg.default_hooks.frozen_guard.state == GUARDED.get(
        state(path), state(path)
    )
    if state(path) == 'frozen':
        assert find_faults(model.backbone) == []
        whole = count_parameters(model)
        assert whole.trainable / whole.total > 0.4, 'enough capacity'
    else:
        assert counts.trainable == counts.total
    init = model.backbone.init_cfg
    pretrained = isinstance(init, dict) and init['type'] == 'Pretrained'
    assert pretrained == (state(path) != 'scratch')


def test_name_says_what_is_built(path):
    parts = NAME.fullmatch(path.stem)
    assert parts, f'{path.stem} follows no grammar'
    cfg = load(path)
    assert cfg.model.type == 'MaskRCNN'
    assert cfg.model.neck.type == ('FPN' if parts['neck'] else 'AnySizeNASFPN')
    backbone = cfg.model.backbone
    assert (backbone.get('depth') == 101) == (parts['backbone'] == 'r101')
    assert (
        backbone.get('backbone', {}).get('model_name')
        == 'tf_efficientnet_lite0'
    ) == (parts['backbone'] == 'lite0')
    root = {
        'lvis': 'data/lvis_v1/',
        'coco': 'data/coco/',
        'mini-lvis': 'data/mini_lvis/',
    }[parts['dataset']]
    assert cfg.val_dataloader.dataset.data_root == root
    classes = 80 if parts['dataset'] == 'coco' else 1203
    assert cfg.model.roi_head.bbox_head.num_classes == classes
    assert cfg.model.roi_head.mask_head.num_classes == classes


def test_control_differs_from_its_experiment_in_nothing_but_the_state(path):
    ours = flat(load(path).to_dict())
    theirs = flat(load(ROOT / 'configs/frozen' / path.name).to_dict())
    differ = {
        k
        for k in ours.keys() | theirs.keys()
        if ours.get(k, 'absent') != theirs.get(k, 'absent')
    }
    if state(path) == 'thawed':  # a schedule of its own, from a checkpoint
        differ = {k for k in differ if not PHASE_KEYS.match(k)}
    assert [k for k in differ if not STATE_KEYS.match(k)] == []
    assert bool(differ) == (state(path) != 'frozen')


def test_at_most_two_hops_inside_the_repository(path):
    def hops(file):
        text = file.read_text()
        found = re.search(r'^_base_ = (\[.*?\]|.*?)$', text, re.M | re.S)
        bases = re.findall(r"'([^']+)'", found[1]) if found else []
        inside = [b for b in bases if '::' not in b]
        return max((1 + hops(file.parent / b) for b in inside), default=0)

    assert hops(path) <= 2


def test_head_says_what_it_tests_and_how_to_run_it(path):
    head = path.read_text().split('"""')[1]
    assert f'mim train mmdet configs/{state(path)}/{path.name}' in head
    if 'mini' not in path.name:
        assert 'not run' in head


def test_lvis_experiment_has_the_papers_settings():
    cfg = load(ROOT / 'configs/frozen/mask_rcnn_r101_lvis.py')
    jitter = next(t for t in cfg.train_pipeline if t.type == 'RandomResize')
    assert jitter.scale == (1024, 1024) and jitter.ratio_range == (0.1, 2.0)
    assert cfg.train_dataloader.dataset.type == 'ClassBalancedDataset'
    assert cfg.train_cfg.max_epochs == 72
    assert cfg.param_scheduler[1].milestones == [48, 68]
    # the published steps: 118,287 COCO images in batches of 64
    steps = 133_056 / 72
    assert 48 * steps == 88_704 and 68 * steps == 125_664
    assert cfg.optim_wrapper.optimizer.lr == 0.16
    assert cfg.param_scheduler[0].start_factor * 0.16 == pytest.approx(0.0067)
    assert (
        cfg.auto_scale_lr.base_batch_size
        == 8 * 8
        == (8 * cfg.train_dataloader.batch_size)
    )
    assert cfg.model.neck.stack_times == 5
    box = cfg.model.roi_head.bbox_head
    assert (box.num_shared_convs, box.num_shared_fcs) == (4, 2)
    assert cfg.model.test_cfg.rcnn.max_per_img == 300
