"""This module lists, by path in a config, the registries of types and the
known keys."""

from __future__ import annotations

from inspect import signature
from re import fullmatch

from mmdet import registry as mmdet
from mmengine.registry import FUNCTIONS, Registry
from mmengine.runner import Runner, set_random_seed
from torch.utils.data import DataLoader

Registries = tuple[Registry, ...]

#: Top-level keys that `Runner.from_cfg` and MMDetection's `tools/` read.
TOP = {
    *list(signature(Runner.__init__).parameters)[1:-1],
    'auto_scale_lr',
    'custom_imports',
    'default_scope',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}

_DATA: dict[str, Registries] = {
    '': (mmdet.DATASETS,),
    'sampler': (mmdet.DATA_SAMPLERS,),
    'batch_sampler': (mmdet.DATA_SAMPLERS,),
    'pipeline': (mmdet.TRANSFORMS, mmdet.TASK_UTILS),
    'collate_fn': (FUNCTIONS,),
    'worker_init_fn': (FUNCTIONS,),
}
_HOOKS: dict[str, Registries] = {
    '': (mmdet.HOOKS,),
    'switch_pipeline': (mmdet.TRANSFORMS,),
}
_LOOPS: dict[str, Registries] = {'': (mmdet.LOOPS,)}
_EVALUATORS: dict[str, Registries] = {
    '': (mmdet.METRICS, mmdet.EVALUATOR, mmdet.TASK_UTILS)
}
#: Registries in which the `type` of a dict is looked up, by top-level key and
#: then by the nearest key above the dict that is listed here.
REGISTRIES: dict[str, dict[str, Registries]] = {
    'model': {
        '': (mmdet.MODELS, mmdet.TASK_UTILS),
        'init_cfg': (mmdet.WEIGHT_INITIALIZERS,),
        'override': (),
        'dcn': (),
        # functions of mmcv
        'nms': (),
        'roi_layer': (),
    },
    'train_dataloader': _DATA,
    'val_dataloader': _DATA,
    'test_dataloader': _DATA,
    'train_cfg': _LOOPS,
    'val_cfg': _LOOPS,
    'test_cfg': _LOOPS,
    'optim_wrapper': {
        '': (mmdet.OPTIM_WRAPPERS,),
        'optimizer': (mmdet.OPTIMIZERS,),
        'constructor': (),
    },
    'param_scheduler': {'': (mmdet.PARAM_SCHEDULERS,)},
    'default_hooks': _HOOKS,
    'custom_hooks': _HOOKS,
    'val_evaluator': _EVALUATORS,
    'test_evaluator': _EVALUATORS,
    'visualizer': {
        '': (mmdet.VISUALIZERS,),
        'vis_backends': (mmdet.VISBACKENDS,),
    },
    'log_processor': {'': (mmdet.LOG_PROCESSORS,)},
}
#: Top-level keys for which an empty dict is a fault.
FILLED = {
    'model',
    'optim_wrapper',
    'param_scheduler',
    'randomness',
    'train_cfg',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'visualizer',
}
#: Keys from which a class is built: a dict with a type, or a list of them.
TYPED = {
    'act_cfg',
    'anchor_generator',
    'assigner',
    'backbone',
    'bbox_coder',
    'bbox_head',
    'bbox_roi_extractor',
    'data_preprocessor',
    'dataset',
    'loss_bbox',
    'loss_cls',
    'loss_mask',
    'mask_head',
    'mask_roi_extractor',
    'neck',
    'norm_cfg',
    'optimizer',
    'pipeline',
    'roi_head',
    'roi_layer',
    'rpn_head',
    'sampler',
    'vis_backends',
}
#: Keys of TYPED whose value may be a list.
LISTS = {
    'bbox_head',
    'bbox_roi_extractor',
    'mask_head',
    'mask_roi_extractor',
    'neck',
    'pipeline',
    'vis_backends',
}
#: Default hooks of MMEngine, which it leaves out if they are None.
REMOVABLE = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)
#: Keys that are removed from a dict before its class is called, by registry.
EXTRA: dict[str, set[str]] = {
    'hook': {'priority'},
    'model': {'requires_grad'},  # an option of norm_cfg
    'optim_wrapper': {'constructor', 'optimizer', 'paramwise_cfg'},
    'parameter scheduler': {'convert_to_iter_based'},
}

_NMS = """type iou_threshold class_agnostic split_thr max_num min_score
method sigma"""
_PROPOSALS = """nms_pre max_per_img max_per_image nms min_bbox_size
score_thr"""
_TRAIN = 'assigner sampler allowed_border pos_weight debug'
_PARAMWISE = """custom_keys norm_decay_mult bias_lr_mult bias_decay_mult
flat_decay_mult dwconv_decay_mult dcn_offset_lr_mult bypass_duplicate
decay_rate decay_type layer_decay_rate num_layers"""
_CLIP = 'type max_norm norm_type error_if_nonfinite foreach clip_value'
_DEFAULT_HOOKS = f"""{' '.join(REMOVABLE)} visualization frozen_guard drift
step_cost non_finite engine"""
_ROI_LAYER = """type output_size spatial_scale sampling_ratio pool_mode aligned
use_torchvision"""
_LOADER = ' '.join(list(signature(DataLoader.__init__).parameters)[1:])
#: Keys of dicts without a type, by the pattern of their path; MMDetection
#: ignores all others.
KEYS = {
    r'(train|val|test)_dataloader': f'{_LOADER} num_batch_per_epoch',
    r'env_cfg': 'cudnn_benchmark mp_cfg dist_cfg resource_limit',
    r'env_cfg\.mp_cfg': 'mp_start_method opencv_num_threads',
    r'env_cfg\.dist_cfg': 'backend timeout init_method world_size rank',
    r'randomness': ' '.join(signature(set_random_seed).parameters),
    r'default_hooks': _DEFAULT_HOOKS,
    r'model\..*\.roi_layer': _ROI_LAYER,
    r'auto_scale_lr': 'enable base_batch_size',
    r'optim_wrapper\.clip_grad': _CLIP,
    r'optim_wrapper\.paramwise_cfg': _PARAMWISE,
    r'optim_wrapper\.paramwise_cfg\.custom_keys\..+': 'lr_mult decay_mult',
    r'.*\.filter_cfg': 'filter_empty_gt min_size',
    r'.*\.data_prefix': 'img img_path seg ann anno sub_data_root',
    r'.*\.pad_val': 'img masks seg',
    r'.*\.metainfo': 'classes palette dataset_type task_name',
    r'model\.train_cfg': f'rpn rpn_proposal rcnn {_TRAIN}',
    r'model\.test_cfg': f'rpn rcnn {_PROPOSALS}',
    r'model\.train_cfg\.rpn': _TRAIN,
    r'model\.(train_cfg\.rpn_proposal|test_cfg\.rpn)': _PROPOSALS,
    r'model\.train_cfg\.rcnn(\.\d+)?': f'{_TRAIN} mask_size',
    r'model\.test_cfg\.rcnn': f'{_PROPOSALS} mask_thr_binary',
    r'model\..*\.nms': _NMS,
}


def known_keys(path: str) -> list[str]:
    """Return the known keys of the dict without a type at a path; an empty
    list if no pattern matches."""
    found = (keys.split() for at, keys in KEYS.items() if fullmatch(at, path))
    return next(found, [])


def is_scope(name: str) -> bool:
    """Return whether a package has registries under this scope name."""
    root = mmdet.MODELS.root
    return name in {root.scope, *root.children}
