"""Check that the parts of a built detector fit one another."""

from __future__ import annotations

from typing import Any

from torch import nn

from .type_names import known_name

#: Necks whose `in_channels` list every level of the backbone.
NECKS = {
    'AnySizeBiFPN',
    'AnySizeNASFPN',
    'FPN',
    'NASFPN',
    'PAFPN',
    'SimpleFeaturePyramid',
}
#: Extractors that return as many channels as each level has.
EXTRACTORS = {'Float32RoIExtractor', 'SingleRoIExtractor'}
#: Classification losses of RoIs, which only box heads of RoIs can use.
REGION_LOSSES = {'EQLV2Loss', 'EQLv2', 'FederatedLoss', 'SeesawLoss'}
#: Names of the last convolution of a block, the most specific one first.
LAST_CONVS = ('conv_pwl', 'linear_conv', 'conv3', 'conv2', 'conv_pw')


def check_fit(detector: nn.Module) -> None:
    """Check channels and numbers of levels between backbone, neck and heads,
    and the losses of heads.

    MMDetection fails at the first image, in an assertion or a convolution, if
    at all. Only classes of MMDetection and of this package are checked: a
    subclass, or another class of the same name, may differ.

    Raises:
        ValueError: If a part does not fit the one before it, or a loss its
            head.
    """
    for name in ('rpn_head', 'bbox_head'):
        _check_loss(f'model.{name}', getattr(detector, name, None))
    neck = getattr(detector, 'neck', None)
    if not _is_known(neck, NECKS):
        return
    _check_neck(detector.backbone, neck)
    for name in ('rpn_head', 'bbox_head'):
        head = getattr(detector, name, None)
        if head is not None:
            _check_dense_head(f'model.{name}', head, neck)
    roi_head = getattr(detector, 'roi_head', None)
    for name in ('bbox', 'mask'):
        _check_roi_head(roi_head, name, neck)


def backbone_channels(backbone: nn.Module) -> list[Any] | None:
    """Return the channels of a backbone's output levels, finest first; None
    if its class is not known."""
    if _is_known(backbone, {'TimmBackbone'}):
        return list(backbone.channels)
    layers = getattr(backbone, 'res_layers', None)  # the ResNet family
    if not layers or not hasattr(backbone, 'out_indices'):
        return None
    stages = [getattr(backbone, layers[i]) for i in backbone.out_indices]
    if not all(isinstance(stage, nn.Sequential) for stage in stages):
        return None
    channels = [output_channels(stage[-1]) for stage in stages]
    return None if None in channels else channels


def _is_known(part: Any, names: set[str]) -> bool:
    """Return whether a module has a known class with one of these names."""
    return known_name(type(part)) in names


def output_channels(block: nn.Module) -> int | None:
    """Return the output channels of a residual block; None if unknown."""
    for name in LAST_CONVS:
        if hasattr(block, name):
            channels: int = getattr(block, name).out_channels
            return channels
    return None


def _check_loss(key: str, head: Any) -> None:
    loss = getattr(head, 'loss_cls', None)
    if known_name(type(head)) and _is_known(loss, REGION_LOSSES):
        raise ValueError(
            f'{key}.loss_cls must be a loss of anchors, got '
            f'{type(loss).__name__}, which is one of regions. Set it in '
            'model.roi_head.bbox_head, or use FocalLoss or CrossEntropyLoss.'
        )


def _check_neck(backbone: nn.Module, neck: nn.Module) -> None:
    given = backbone_channels(backbone)
    expected = neck.in_channels
    expected = [expected] if isinstance(expected, int) else list(expected)
    if given is not None and given != expected:
        raise ValueError(
            f'model.neck.in_channels must be {given}, the channels of the '
            f'{len(given)} levels that {type(backbone).__name__} gives, got '
            f'{expected}. Set it accordingly, or choose other levels with '
            'model.backbone.out_indices.'
        )


def _check_dense_head(key: str, head: nn.Module, neck: nn.Module) -> None:
    _check_channels(f'{key}.in_channels', head, 'in_channels', neck)
    generator = getattr(head, 'prior_generator', None)
    num_outs = getattr(neck, 'num_outs', None)
    if generator is None or num_outs is None:
        return
    if generator.num_levels != num_outs:
        raise ValueError(
            f'{key}.anchor_generator.strides must list one stride for each '
            f'of the {num_outs} levels of {type(neck).__name__}, got '
            f'{generator.num_levels}. Correct it, or model.neck.num_outs.'
        )


def _check_roi_head(roi_head: Any, name: str, neck: nn.Module) -> None:
    extractor = getattr(roi_head, f'{name}_roi_extractor', None)
    heads = getattr(roi_head, f'{name}_head', None)
    many = isinstance(extractor, nn.ModuleList)
    for i, one in enumerate(extractor if many else [extractor]):
        if _is_known(one, EXTRACTORS):
            key = f'model.roi_head.{name}_roi_extractor.out_channels'
            _check_channels(key, one, 'out_channels', neck)
            levels = getattr(neck, 'num_outs', len(one.featmap_strides))
            if len(one.featmap_strides) > levels:
                raise ValueError(
                    f'model.roi_head.{name}_roi_extractor.featmap_strides '
                    f'must list at most the {levels} levels of '
                    f'{type(neck).__name__}, got {one.featmap_strides}. '
                    'Correct it, or model.neck.num_outs.'
                )
            head = heads[i] if isinstance(heads, nn.ModuleList) else heads
            key = f'model.roi_head.{name}_head.in_channels'
            _check_channels(key, head, 'in_channels', neck)


def _check_channels(
    key: str, part: Any, attribute: str, neck: nn.Module
) -> None:
    channels, width = getattr(part, attribute, None), neck.out_channels
    if isinstance(channels, int) and channels != width:
        raise ValueError(
            f'{key} must be {width}, the out_channels of '
            f'{type(neck).__name__}, got {channels}. Set it accordingly.'
        )
