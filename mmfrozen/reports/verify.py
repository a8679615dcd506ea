"""Compare a trained detector's backbone with its classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from safetensors.torch import load_file
from torch import Tensor

from ..errors import one_line
from ..freeze_config import meta
from ..freezing import REFERENCE, LoadRecorder, is_output_norm
from ..freezing.components import backbone_namer
from ..freezing.drift import changed, measure
from ..freezing.weights_file import check_file, is_local
from ..run_files import Verification
from .config_text import check_types, read_backbone_config

COUNTER = 'num_batches_tracked'  # taken as 0 where an old file lacks it


def verify(
    checkpoint: str,
    against: str | None = None,
    report: Callable[[str], None] = lambda step: None,
) -> Verification:
    """Compare the backbone in a checkpoint with a classifier, bit by bit.

    Tensors are matched by name (torchvision's layout, timm's, and whole
    detectors). Where names differ, the backbone is built from the
    checkpoint's config and loads the classifier as it did in training.
    No code in a file is executed; its config is only parsed.

    Args:
        checkpoint: Path of a ``.pth`` file that a run wrote.
        against: Path of the classifier's weights; None for those that the
            checkpoint's own config names.
        report: Called with a description of each step.

    Raises:
        ValueError: If a file does not have the expected content.
        FileNotFoundError: If a file does not exist.
    """
    report(f'reading {checkpoint}')
    check_file(checkpoint, 'CHECKPOINT')
    content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    own = _backbone_tensors(content, checkpoint)
    classifier = against or _named_classifier(_read_config(content))
    if not classifier:
        raise ValueError(
            'CHECKPOINT must name its classifier in meta.cfg '
            f'(model.backbone.init_cfg), got {checkpoint!r}, which does not. '
            'Give the classifier with --against.'
        )
    report(f'reading {classifier}')
    source = '--against' if against else 'model.backbone.init_cfg.checkpoint'
    if is_local(classifier):
        check_file(classifier, source)
    reference = _match_names(own, _read_weights(classifier))
    if reference is None:
        report(f'building the backbone to load {classifier}')
        reference = _build(_read_config(content), classifier, own)
    report(f'comparing {len(own)} tensors')
    return Verification(
        checkpoint=checkpoint,
        classifier=classifier,
        changed=changed(reference, own),
        stages=measure(reference, own, _stage_namer(content)),
    )


def _stage_namer(content: Any) -> Callable[[str], str] | None:
    """Return a function that names stages as in the records of a run.

    Without a usable config in the checkpoint, return None.
    """
    try:
        config = dict(_read_config(content) or {})
        config.pop('init_cfg', None)  # load no weights
        check_types(config)
        return backbone_namer(meta.build(ConfigDict(config)))
    except Exception:  # stages can be named by the tensors instead
        return None


def _named_classifier(config: dict[str, Any] | None) -> str | None:
    init_cfg = (config or {}).get('init_cfg')
    return init_cfg.get('checkpoint') if isinstance(init_cfg, dict) else None


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without common wrappers."""
    for key in ('state_dict', 'model'):
        if isinstance(content, Mapping):
            inner = content.get(key)
            content = inner if isinstance(inner, Mapping) else content
    items = content.items() if isinstance(content, Mapping) else ()
    return {
        k.removeprefix('module.'): v
        for k, v in items
        if isinstance(k, str) and isinstance(v, Tensor)
    }


def _backbone_tensors(content: Any, path: str) -> dict[str, Tensor]:
    own = {
        k.removeprefix('backbone.'): v
        for k, v in _tensors(content).items()
        if k.startswith('backbone.')
        and not k.startswith('backbone.adapters.')  # adapters are trained
    }
    if isinstance(content, Mapping) and REFERENCE in content:
        raise ValueError(
            f'CHECKPOINT must hold its backbone, got {path!r}, which refers '
            'to the classifier (save_backbone=False). Its digest is compared '
            'whenever a run loads it.'
        )
    if not own:
        raise ValueError(
            "CHECKPOINT must hold a detector, with tensors named 'backbone."
            f"...', got {path!r}. Give the .pth that a training run wrote."
        )
    return own


def _read_config(content: Any) -> dict[str, Any] | None:
    meta = content.get('meta') if isinstance(content, Mapping) else None
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    return read_backbone_config(text) if isinstance(text, str) else None


def _read_weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file.

    For formats that only the backbone can read, return an empty dict.
    """
    if path.endswith('.safetensors'):
        return load_file(path)
    if path.startswith('timm://') or path.endswith('.npz'):
        return {}
    return _tensors(CheckpointLoader.load_checkpoint(path, 'cpu'))


def _match_names(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Return every tensor's source; None if one is missing or ambiguous.

    Names may differ by a common prefix on either side: a wrapper's
    ``model.``, or the ``encoder.`` of the network in the file.
    """
    plain = {k.removeprefix('backbone.'): t for k, t in weights.items()}
    # timm's FeatureListNet renames a.b.c to a_b.c
    known = {k.replace('.', '_', 1): t for k, t in plain.items()} | plain
    bare = {name: name for name in own}
    while True:
        matches = [
            found
            for prefix in _prefixes(next(iter(bare)), known, plain)
            if (found := _match(own, bare, known, prefix)) is not None
        ]
        if len(matches) == 1:
            return matches[0]
        heads = {name.partition('.')[0] for name in bare}
        if matches or len(heads) > 1 or not all('.' in n for n in bare):
            return None  # ambiguous or missing
        bare = {k.partition('.')[2]: v for k, v in bare.items()}


def _prefixes(
    name: str, known: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> list[str]:
    """Return possible prefixes of a tensor's name in a file.

    If the name itself is in the file, the only prefix is the empty one.
    """
    if name in known:
        return ['']
    return [k.removesuffix(name) for k in plain if k.endswith(f'.{name}')]


def _match(
    own: Mapping[str, Tensor],
    bare: Mapping[str, str],
    known: Mapping[str, Tensor],
    prefix: str,
) -> dict[str, Tensor] | None:
    found = {}
    for stripped, name in bare.items():
        source = known.get(prefix + stripped)
        if source is None and name.endswith(COUNTER):
            source = torch.zeros_like(own[name])
        if source is None and is_output_norm(name):
            source = torch.full_like(own[name], name.endswith('weight'))
        if source is None or source.shape != own[name].shape:
            return None
        found[name] = source
    return found


def _build(
    config: dict[str, Any] | None, classifier: str, own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Build the backbone and load the classifier as at the run's start.

    Returns:
        The tensors in ``own``, as loaded from the classifier.
    """
    if not config:
        raise ValueError(
            'CHECKPOINT must have its config (meta.cfg) where its tensors '
            f'and those of {classifier!r} have different names, got none. '
            'Give the checkpoint that the run wrote.'
        )
    init_cfg = config.get('init_cfg')
    init_cfg = dict(init_cfg) if isinstance(init_cfg, dict) else {}
    init_cfg.update(type='Pretrained', checkpoint=classifier)
    config = {k: v for k, v in config.items() if k != 'init_cfg'}
    check_types(config)
    try:
        with DefaultScope.overwrite_default_scope('mmdet'):
            backbone = MODELS.build(ConfigDict(config, init_cfg=init_cfg))
            recorder = LoadRecorder(backbone)
            backbone.init_weights()
    except Exception as error:  # a class of the config may raise anything
        raise ValueError(
            f'model.backbone of the checkpoint must load {classifier!r}, got '
            f'{one_line(error)}. Give the weights that the '
            'run began with.'
        ) from error
    missing = recorder.stop()
    state = backbone.state_dict()
    missing += sorted(own.keys() - state.keys())
    if missing:
        raise ValueError(
            f'{classifier!r} must fill every tensor of '
            f'{type(backbone).__name__}, got none for {len(missing)} of '
            f'them, the first is {missing[0]}. Give the weights that the run '
            'began with.'
        )
    return {name: state[name] for name in own}
