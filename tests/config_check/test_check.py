"""Mistakes that people make in configs, each refused in one line that names
the key as typed."""

import copy

import pytest
from mmengine.config import Config
from mmengine.hooks import IterTimerHook
from mmengine.registry import RUNNERS

import mmfrozen  # noqa: F401  (registers)
from mmfrozen.config_check import check_config
from tests.configs.pack import FROZEN, PACK, load

SEESAW = PACK / 'frozen/mask_rcnn_lite0_seesaw_mini-lvis.py'
R101 = PACK / 'frozen/mask_rcnn_r101_lvis.py'
PASTE = PACK / 'frozen/cascade_mask_rcnn_b7_390e_scp_lvis.py'


def changed(path, key, value):
    """A config as ``--cfg-options KEY=VALUE`` leaves it."""
    cfg = copy.deepcopy(load(path))
    cfg.merge_from_dict({key: value})
    return cfg


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        # misspelt keys, where a class reads them and where nothing does
        ('model.backbone.frozen_stage', 2, "mean 'frozen_stages'"),
        ('model.neck.stak_times', 3, "mean 'stack_times'"),
        ('model.roi_head.bbox_head.num_clases', 3, "mean 'num_classes'"),
        ('model.train_cfg.rcnn.sampler.nun', 3, "mean 'num'"),
        ('model.test_cfg.rcnn.scor_thr', 0.1, "mean 'score_thr'"),
        ('train_dataloader.batchsize', 3, "mean 'batch_size'"),
        ('optim_wrapper.clip_grad.max_nrm', 3, "mean 'max_norm'"),
        ('default_hooks.checkpont', dict(interval=2), "mean 'checkpoint'"),
        ('default_hooks.drift.intervall', 2, "mean 'interval'"),
        ('env_cfg.cudnn_benchmrk', True, "mean 'cudnn_benchmark'"),
        ('val_evaluator.metrics', 'bbox', "mean 'metric'"),
        # types
        ('model.neck.type', 'AnySizeNASFPM', "mean 'AnySizeNASFPN'"),
        ('model.rpn_head.type', 'mmdte.RPNHead', "mean 'mmdet'"),
        ('optim_wrapper.optimizer.type', 'SDG', "mean 'SGD'"),
        ('model.rpn_head.anchor_generator', dict(_delete_=True), 'a type'),
        # another kind of value
        ('optim_wrapper.optimizer.lr', '1e-3', 'a number'),
        ('model.neck.out_channels', None, 'a whole number'),
        ('model.roi_head.mask_head.in_channels', None, 'a whole number'),
        ('model.train_cfg.rpn_proposal.nms_pre', '50', 'a whole number'),
        ('model.backbone.norm_eval', 'yes', 'True or False'),
        ('train_dataloader', 'coco', 'a dict'),
        ('default_hooks', True, 'a dict'),
        ('default_hooks.logger', [dict(type='LoggerHook')], 'a type'),
        ('train_cfg', dict(_delete_=True), 'something in it'),
        ('log_level', 'INOF', 'one of DEBUG'),
        ('env_cfg.dist_cfg.backnd', 'gloo', "mean 'backend'"),
        ('model.neck.norm_cfg', [], 'a dict'),
        # out of range
        ('optim_wrapper.optimizer.lr', -0.1, 'at least 0'),
        ('optim_wrapper.optimizer.lr', float('nan'), 'a number'),
        ('train_dataloader.batch_size', 0, 'at least 1'),
        ('model.roi_head.bbox_head.num_classes', 0, 'at least 1'),
        ('default_hooks.checkpoint.interval', 0, '-1 or a whole number'),
        ('default_hooks.drift.interval', 0, '-1 or a whole number'),
        ('default_hooks.drift.priority', 'HIGHER', 'HIGHEST'),
        ('train_cfg.max_epochs', 0, 'at least 1'),
        ('default_scope', 'mmdte', 'package with registries'),
        ('env_cfg.mp_cfg.mp_start_method', 'frok', "'fork'"),
        ('model.train_cfg.rcnn.sampler.pos_fraction', 25, 'from 0 to 1'),
        ('model.rpn_head.bbox_coder.target_stds', [1.0] * 3, 'four'),
        ('model.test_cfg', None, 'rpn beside model.rpn_head'),
        ('model.train_cfg.rpn', dict(_delete_=True), 'something in it'),
        ('model.train_cfg.rpn', [], 'a dict'),
        ('model.train_cfg.rpn_proposal', [dict(nms_pre=9)], 'a dict'),
        ('model.train_cfg.rpn_proposal.nms_pre', 50.5, 'a whole number'),
        (
            'model.roi_head.bbox_roi_extractor.roi_layer.output_size',
            [7],
            'two of such',
        ),
        ('model.roi_head.bbox_head', [dict(type='BBoxHead')], 'a dict'),
        ('val_dataloader.dataset.data_prefix', dict(_delete_=True), 'one at'),
        ('model.backbone.norm_cfg.type', 'BNs', 'registered class'),
        ('model.train_cfg.rpn_proposal.nms', None, 'a dict'),
        ('randomness.seed', [], 'a whole number'),
        ('optim_wrapper.constructor', '', 'constructor that is registered'),
        (
            'model.roi_head.bbox_roi_extractor.roi_layer.output_size',
            8,
            'the roi_feat_size of bbox_head',
        ),
        ('visualizer', dict(_delete_=True), 'something in it'),
        ('val_evaluator', dict(_delete_=True), 'something in it'),
        ('model.rpn_head', None, 'proposal_file'),
        ('model.backbone.num_stages', -1, 'at least 1'),
        ('param_scheduler', dict(_delete_=True), 'something in it'),
        ('model.train_cfg.rpn_proposal.max_per_img', 0, 'at least 1'),
        ('model.roi_head.mask_head.num_convs', -0.5, 'a whole number'),
        ('train_dataloader.sampler', [dict(type='DefaultSampler')], 'a type'),
        ('default_hooks.visualization', None, 'a type'),
        ('model.train_cfg.rpn.assigner', [dict(type='A')], 'a type'),
        ('model.rpn_head.anchor_generator.ratios', '', 'above 0'),
        ('default_hooks.non_finte', dict(policy='skip'), "mean 'non_finite'"),
    ],
)
def test_mistake_is_refused_in_one_line_with_its_path(key, value, message):
    with pytest.raises(ValueError, match=message) as error:
        check_config(changed(R101, key, value))
    assert '\n' not in str(error.value)
    assert str(error.value).startswith(key.rpartition('.')[0])
    assert key.rpartition('.')[2] in str(error.value)


@pytest.mark.parametrize(
    ('number', 'key', 'value', 'message'),
    [
        (2, 'scale', (0, 0), 'above 0'),
        (2, 'ratio_range', (2.0, 0.1), 'the smaller one first'),
        (3, 'crop_size', (0, 64), 'above 0'),
        (5, 'prob', 1.5, 'from 0 to 1'),
        (6, 'sise', (64, 64), "mean 'size'"),
        (6, 'pad_val', dict(img=(114, 114)), 'three of such'),
    ],
)
def test_mistake_in_a_pipeline_is_refused(number, key, value, message):
    cfg = copy.deepcopy(load(R101))
    cfg.train_dataloader.dataset.dataset.pipeline[number][key] = value
    path = f'train_dataloader.dataset.dataset.pipeline.{number}.{key}'
    with pytest.raises(ValueError, match=message) as error:
        check_config(cfg)
    assert str(error.value).startswith(path)


@pytest.mark.parametrize(
    ('reorder', 'message'),
    [
        (lambda steps: steps[::-1], 'load images before all else'),
        (lambda steps: [*steps, steps[-1]], 'pack samples once and last'),
        (lambda steps: steps[:-1], 'end with PackDetInputs'),
    ],
)
def test_order_of_a_pipeline_that_cannot_be_is_refused(reorder, message):
    cfg = copy.deepcopy(load(R101))
    dataset = cfg.val_dataloader.dataset
    dataset.pipeline = reorder(dataset.pipeline)
    with pytest.raises(ValueError, match=message) as error:
        check_config(cfg)
    assert str(error.value).startswith('val_dataloader.dataset.pipeline must')


def test_misspelt_option_of_functions_and_of_what_they_wrap_is_refused():
    cfg = changed(PASTE, 'model.backbone.norm_evel', True)
    with pytest.raises(ValueError, match=r'model\.backbone\.norm_evel must'):
        check_config(cfg)
    cfg = changed(PASTE, 'model.backbone.backbone.modelname', 'resnet18')
    with pytest.raises(ValueError, match=r'backbone\.backbone\.modelname'):
        check_config(cfg)


def test_hook_that_is_built_already_is_taken():
    cfg = copy.deepcopy(load(R101))
    cfg.default_hooks.timer = IterTimerHook()
    check_config(cfg)


def test_cascade_has_to_have_settings_for_each_stage():
    cfg = copy.deepcopy(load(PASTE))
    cfg.model.train_cfg.rcnn = cfg.model.train_cfg.rcnn[:-1]
    with pytest.raises(ValueError, match='rcnn must have an item for each'):
        check_config(cfg)


def test_seesaw_has_to_have_the_classes_of_its_head():
    key = 'model.roi_head.bbox_head.num_classes'
    with pytest.raises(ValueError, match=r'loss_cls\.num_classes must be 20'):
        check_config(changed(SEESAW, key, 20))


@pytest.mark.parametrize(
    ('key', 'value', 'meant'),
    [
        ('optim_wraper.optimizer.lr', 0.1, 'optim_wrapper'),
        ('custom_hook', [dict(type='EMAHook')], 'custom_hooks'),
        ('load_form', 'detector.pth', 'load_from'),
        ('resum', True, 'resume'),
    ],
)
def test_misspelt_key_at_the_top_is_refused_beside_the_right_one(
    key, value, meant
):
    with pytest.raises(ValueError, match=f'mean {meant!r}') as error:
        check_config(changed(R101, key, value))
    assert str(error.value).startswith(key.partition('.')[0])
    assert '\n' not in str(error.value)


def test_misspelt_key_at_the_top_is_refused_where_the_right_one_is_not():
    cfg = copy.deepcopy(load(R101))
    cfg.train_datalaoder = cfg.pop('train_dataloader')
    with pytest.raises(ValueError, match="mean 'train_dataloader'"):
        check_config(cfg)


def test_variable_that_cannot_be_the_key_it_looks_like_is_a_warning():
    (warning,) = check_config(changed(R101, 'models', ['r50', 'r101']))
    assert warning.startswith('models is read by nothing')
    assert "'model'" in warning


def test_variables_of_ones_own_are_left_alone():
    cfg = load(R101)
    own = dict(
        my_lr=0.1,
        image_sizes=[1],
        classes=('a',),
        width=3,
        dataset_type='CocoDataset',
        backend_args=None,
        model2=dict(type='FCOS'),
        text_cfg=cfg.model.test_cfg.to_dict(),  # it stands inside the model
    )
    assert check_config(Config({**cfg.to_dict(), **own})) == []


def test_class_of_others_is_judged_by_its_signature_alone():
    class Others:
        def __init__(self, width: int, **options):
            del width, options

    cfg = changed(R101, 'model.neck', dict(type=Others, _delete_=True, a=1))
    assert check_config(cfg) == []
    cfg.model.neck.widht = 3
    with pytest.raises(ValueError, match=r"neck\.widht .* mean 'width'"):
        check_config(cfg)


def test_runner_of_the_pack_checks_before_it_builds(tmp_path):
    cfg = changed(R101, 'model.backbone.frozen_stage', 2)
    cfg.work_dir = str(tmp_path)
    with pytest.raises(ValueError, match=r'model\.backbone\.frozen_stage'):
        RUNNERS.build(cfg)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('path', FROZEN, ids=lambda path: path.stem)
def test_experiment_of_the_pack_has_no_fault(path):
    assert check_config(load(path)) == []
