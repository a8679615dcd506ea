"""Selection of the config and the control to compare, and their states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from ..errors import one_line, remedy_for
from ..freeze_config import locate
from ..freeze_config.decide import is_detectors
from ..freezing import freeze, is_kept_in_eval
from ..pairing import CONTROLS, config_in_state, state_of_folder
from ..type_names import find_type, known_name

#: Change applied to a model before its step: none, freeze the whole backbone,
#: or train all of it.
Change = Literal['none', 'freeze', 'thaw']
#: Value of the control argument that means the config without any change.
AS_WRITTEN = 'as-written'


@dataclass(frozen=True)
class Variant:
    """One side of the comparison.

    Attributes:
        label: Short name, used in column heads.
        config: Path or name as the user gave it.
        change: Change applied to the model that the config builds.
        cfg: The loaded config.
    """

    label: str
    config: str
    change: Change
    cfg: Config

    @property
    def description(self) -> str:
        """Return a description in words."""
        what = {
            'none': 'as written',
            'freeze': 'with its backbone frozen in memory',
            'thaw': 'with every stage of its backbone trained',
        }
        return f'{self.config}, {what[self.change]}'


def load_config(config: str) -> Config:
    """Load a config by path or ``mmdet::`` name.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it does not load, or has no model.
    """
    path = locate(config)
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program and may raise anything
        raise ValueError(
            f'A config must load in this environment, got {one_line(error)} '
            f'from {config}. {remedy_for(error)}'
        ) from error
    if not isinstance(cfg.get('model'), dict):
        raise ValueError(
            f'A config must have a model, got {config} without one. Give the '
            'config that is trained.'
        )
    return cfg


def find_pair(
    config: str, control: str | None = None
) -> tuple[Variant, Variant]:
    """Find the frozen config and the control to compare it with.

    A file in ``frozen/`` has its control in ``finetuned/``, and vice versa.
    Any other config is frozen in memory, unless it already freezes with this
    package, and compared with itself thawed: every stage of the backbone
    trains.

    Args:
        config: Path or ``mmdet::`` name.
        control: Path or ``mmdet::`` name, or ``'as-written'`` to compare the
            frozen config with the unchanged one; None to find the control.

    Returns:
        The frozen variant and its control.

    Raises:
        FileNotFoundError: If a config is missing.
        ValueError: If a config does not load.
    """
    cfg = load_config(config)
    if control == AS_WRITTEN:
        return (
            Variant('frozen', config, 'freeze', cfg),
            Variant('as written', config, 'none', cfg),
        )
    if control is not None:
        return (
            Variant('frozen', config, 'none', cfg),
            Variant('control', control, 'none', load_config(control)),
        )
    path = Path(config)
    folder = state_of_folder(path)
    if folder in CONTROLS:
        experiment = config_in_state(path, 'frozen')
        if experiment.is_file():
            frozen = load_config(str(experiment))
            return (
                Variant('frozen', str(experiment), 'none', frozen),
                Variant('fine-tuned', config, 'none', cfg),
            )
    sibling = config_in_state(path, 'finetuned')
    if folder == 'frozen' and sibling.is_file():
        other = load_config(str(sibling))
        return (
            Variant('frozen', config, 'none', cfg),
            Variant('fine-tuned', str(sibling), 'none', other),
        )
    ours = folder == 'frozen' or _says_frozen(cfg.model)
    return (
        Variant('frozen', config, 'none' if ours else 'freeze', cfg),
        Variant('fine-tuned', config, 'thaw', cfg),
    )


def _says_frozen(cfg: object) -> bool:
    """Return whether a model's config freezes a part with this package."""
    if isinstance(cfg, dict):
        kind = find_type(cfg.get('type'), MODELS)
        if known_name(kind) in ('FrozenBackbone', 'FrozenModule'):
            return True
        return any(map(_says_frozen, cfg.values()))
    return isinstance(cfg, (list, tuple)) and any(map(_says_frozen, cfg))


def apply_change(model: nn.Module, change: Change) -> None:
    """Freeze or thaw a model, in place, after its ``train()``.

    Raises:
        ValueError: If it has no backbone.
    """
    if change == 'none':
        return
    backbones = [m for n, m in model.named_modules() if is_detectors(n)]
    if not backbones:
        raise ValueError(
            f'A {type(model).__name__} must have a backbone to be frozen, got '
            'none. Name a CONTROL.'
        )
    for backbone in backbones:
        if change == 'freeze':
            freeze(backbone)
        else:
            thaw(backbone)
    if change == 'thaw':
        for module in list(model.modules()):
            if is_kept_in_eval(module):
                thaw(module)


def thaw(module: nn.Module) -> None:
    """Undo freezing: all parameters train, dropout is on. Norms that the
    backbone's own ``train()`` keeps in evaluation mode stay there."""
    for child in module.modules():
        if is_kept_in_eval(child):
            del child.train
    module.train()
    module.requires_grad_(True)
