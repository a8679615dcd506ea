"""Access a runner's model, backbone and optimizers; write backbone.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from ..atomic_write import log_write_errors
from ..freezing import checkpoint_of, count_parameters
from ..run_files import BACKBONE, BackboneRecord
from ..type_names import find_type, known_name, type_name

KEY = 'model.backbone'


def find_model(runner: Runner) -> nn.Module:
    """Return the detector without its distributed wrapper."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def find_backbone(runner: Runner) -> nn.Module:
    """Return the detector's backbone."""
    model = find_model(runner)
    if not hasattr(model, 'backbone'):
        raise ValueError(
            f'{KEY} must exist for FrozenGuardHook and DriftHook, got a '
            f'{type(model).__name__} without one. Remove the hooks.'
        )
    return model.backbone


def backbone_config(runner: Runner) -> tuple[str, Any]:
    """Return the key and the config of the backbone inside ``FrozenBackbone``.

    The config is None if the runner was given a built model.
    """
    key, config = KEY, (runner.cfg.get('model') or {}).get('backbone')
    while isinstance(config, dict) and (
        known_name(find_type(config.get('type'), MODELS)) == 'FrozenBackbone'
    ):
        key, config = f'{key}.backbone', config['backbone']
    return key, config


def optim_wrappers(wrapper: OptimWrapper) -> list[OptimWrapper]:
    """Return the optimizer wrappers: a single one, or those of a dict."""
    is_many = isinstance(wrapper, OptimWrapperDict)
    return list(wrapper.values()) if is_many else [wrapper]


def optimizer_groups(wrapper: OptimWrapper) -> list[dict[str, Any]]:
    """Return the parameter groups of all optimizers."""
    return [
        group
        for one in optim_wrappers(wrapper)
        for group in one.optimizer.param_groups
    ]


def backbone_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's tensors from a detector's state dict."""
    named = ((k.removeprefix('module.'), v) for k, v in state_dict.items())
    return {
        k.removeprefix('backbone.'): v
        for k, v in named
        if k.startswith('backbone.')
    }


def _source_of_weights(runner: Runner, state: str) -> str | None:
    """Return the backbone's checkpoint, or the call that loads weights."""
    checkpoint = checkpoint_of(find_backbone(runner))
    if checkpoint or state == 'scratch':
        return checkpoint
    if state == 'partial' and runner.cfg.get('load_from'):
        return str(runner.cfg.load_from)
    config = backbone_config(runner)[1]
    if not isinstance(config, dict):
        return None
    options = ', '.join(
        f'{name}={value!r}'
        for name, value in config.items()
        if name != 'type' and (isinstance(value, str) or value is True)
    )
    return f'{type_name(config["type"])}({options})'


def write_record(
    runner: Runner, state: str, verified_iter: int | None = None
) -> BackboneRecord:
    """Write ``WORK_DIR/backbone.json``, in the main process."""
    backbone = find_backbone(runner)
    record = BackboneRecord(
        state=state,
        backbone_type=type(backbone).__name__,
        classifier=_source_of_weights(runner, state),
        backbone=count_parameters(backbone),
        model=count_parameters(find_model(runner)),
        verified_iter=verified_iter,
    )
    if is_main_process():
        with log_write_errors(runner.logger.error):
            BACKBONE.write(Path(runner.work_dir), record)
    return record


def replace_method(
    owner: object, name: str, method: Callable[..., Any]
) -> Callable[[], None]:
    """Replace a method of one object; return a function that restores it."""
    before = vars(owner).get(name)
    setattr(owner, name, method)

    def undo() -> None:
        if before is None:
            vars(owner).pop(name, None)
        else:
            setattr(owner, name, before)

    return undo
