"""This module defines the values that an option may have, by its name."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import Priority

from ..errors import is_number
from ..type_names import find_type
from .places import is_scope


@dataclass(frozen=True)
class Range:
    """Set of values that an option may have.

    Attributes:
        words: Description of valid values, for error messages.
        holds: Function that returns whether a value is valid.
    """

    words: str
    holds: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return is_number(value) and value == value // 1


def _whole(least: int) -> Range:
    return Range(
        f'a whole number of at least {least}',
        lambda v: _is_whole(v) and v >= least,
    )


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _each(one: Range, several: str) -> Range:
    """Return the range of one value or a list of values, nested or not."""

    def holds(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return len(value) > 0 and all(map(holds, value))
        return one.holds(value)

    return Range(f'{one.words}, or {several} of such', holds)


def _pair(value: Any, holds: Callable[[Any], bool]) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(map(holds, value))
    )


def _is_colour(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) == 3 and all(map(_is_finite, value))
    return _is_finite(value)


def _is_priority(value: Any) -> bool:
    if isinstance(value, str):
        return value.upper() in Priority.__members__
    return _is_whole(value) and 0 <= value <= 100


COUNT = _whole(1)
LEVEL = _whole(0)
COUNTS = _each(COUNT, 'a list')
FINITE = Range('a finite number', _is_finite)
POSITIVE = Range('a finite number above 0', lambda v: _is_finite(v) and v > 0)
NOT_NEGATIVE = Range(
    'a finite number of at least 0', lambda v: _is_finite(v) and v >= 0
)
SHARE = Range('a number from 0 to 1', lambda v: is_number(v) and 0 <= v <= 1)
SHARES = _each(SHARE, 'a list')
BOUNDS = Range(
    'a number from 0 to 1, or two of such',
    lambda v: SHARE.holds(v) or _pair(v, SHARE.holds),
)
PREFIXES = Range(
    'a dict of texts, one at least',
    lambda v: (
        isinstance(v, dict)
        and len(v) > 0
        and all(isinstance(one, (str, dict)) for one in v.values())
    ),
)
LEVELS = Range(
    'one of DEBUG, INFO, WARNING, ERROR, CRITICAL',
    lambda v: isinstance(getattr(logging, str(v), None), int),
)
POSITIVES = _each(POSITIVE, 'a list')
WHOLE = Range('a whole number', _is_whole)
SEED = Range(
    'None or a whole number of at least 0',
    lambda v: v is None or LEVEL.holds(v),
)
SIZE = Range(
    f'{COUNT.words}, or two of such',
    lambda v: COUNT.holds(v) or _pair(v, COUNT.holds),
)
PADDING = Range(
    'a number, three of such, or a dict of them',
    lambda v: all(map(_is_colour, v.values() if isinstance(v, dict) else [v])),
)
PRIORITY = Range(
    f'a whole number from 0 to 100, or one of '
    f'{", ".join(Priority.__members__)}',
    _is_priority,
)
RATIO = Range(
    'two numbers above 0, the smaller one first',
    lambda v: _pair(v, POSITIVE.holds) and v[0] <= v[1],
)
FOUR = Range(
    'four finite numbers',
    lambda v: (
        isinstance(v, (list, tuple))
        and len(v) == 4
        and all(map(_is_finite, v))
    ),
)
INTERVAL = Range(
    '-1 or a whole number of at least 1',
    lambda v: COUNT.holds(v) or v == -1,
)
# `checkpoint` is also the name of a hook in default_hooks, hence the dict
TEXT = Range('a text', lambda v: isinstance(v, (str, dict)))
FLAG = Range('True or False', lambda v: isinstance(v, bool))
SCOPE = Range(
    'the name of a package with registries, such as mmdet',
    lambda v: isinstance(v, str) and is_scope(v),
)
START = Range(
    "'fork', 'spawn' or 'forkserver'",
    lambda v: v in ('fork', 'spawn', 'forkserver'),
)
SECTION = Range(
    'a dict, or a list of dicts',
    lambda v: all(
        isinstance(one, dict)
        for one in (v if isinstance(v, (list, tuple)) and v else [v])
    ),
)
PROPOSALS = Range(
    'a dict with something in it', lambda v: isinstance(v, dict) and v != {}
)
CONSTRUCTOR = Range(
    'an optimizer constructor that is registered',
    lambda v: (
        isinstance(v, (str, type))
        and find_type(v, OPTIM_WRAPPER_CONSTRUCTORS) is not None
    ),
)
#: Names of options by the range of their values, also where a signature does
#: not annotate them.
_RULES = {
    COUNT: 'num num_stages num_classes num_outs stack_times base_channels '
    'batch_size base_batch_size max_epochs max_iters val_interval '
    'window_size roi_feat_size num_fed_classes '
    'split_thr max_per_img prefetch_factor in_stride mask_size',
    LEVEL: 'stacked_convs num_convs num_workers start_level num_shared_convs '
    'num_shared_fcs '
    'num_cls_convs num_cls_fcs num_reg_convs num_reg_fcs warmup '
    'opencv_num_threads begin min_bbox_size',
    COUNTS: 'in_channels out_channels feat_channels conv_out_channels '
    'fc_out_channels featmap_strides pad_size_divisor',
    SIZE: 'output_size',
    PADDING: 'pad_val',
    WHOLE: 'nms_pre',
    PROPOSALS: 'rpn_proposal',
    CONSTRUCTOR: 'constructor',
    SEED: 'seed',
    POSITIVES: 'scales ratios base_sizes std strides scale crop_size size',
    POSITIVE: 'beta max_norm finest_scale',
    NOT_NEGATIVE: 'lr weight_decay gamma start_factor end_factor eta_min '
    'lr_mult decay_mult min_size loss_weight power oversample_thr',
    FINITE: 'sampling_ratio allowed_border pos_weight',
    SHARES: 'prob',
    BOUNDS: 'neg_iou_thr',
    PREFIXES: 'data_prefix',
    LEVELS: 'log_level',
    SHARE: 'momentum pos_fraction pos_iou_thr min_pos_iou '
    'score_thr iou_threshold mask_thr_binary prior_prob',
    PRIORITY: 'priority',
    FOUR: 'target_means target_stds',
    FLAG: 'filter_empty_gt cudnn_benchmark pin_memory persistent_workers '
    'enable class_agnostic keep_ratio',
    SCOPE: 'default_scope _scope_',
    INTERVAL: 'interval',
    TEXT: 'checkpoint',
    START: 'mp_start_method',
    SECTION: 'rpn rcnn nms filter_cfg init_cfg mp_cfg dist_cfg',
    RATIO: 'ratio_range',
}
#: Range by the name of an option.
RANGES = {
    name: rule for rule, names in _RULES.items() for name in names.split()
}
