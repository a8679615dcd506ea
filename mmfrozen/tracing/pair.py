"""Selection of the config and the control to compare, and their states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from ..config_file import load_config
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
        cfg: The loaded config, with the options merged.
        options: Values of ``--cfg-options``.
    """

    label: str
    config: str
    change: Change
    cfg: Config
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """Return a description in words."""
        what = {
            'none': 'as written',
            'freeze': 'with its backbone frozen in memory',
            'thaw': 'with every stage of its backbone trained',
        }
        changed = [f'{key}={value}' for key, value in self.options.items()]
        return ', '.join([self.config, what[self.change], *changed])


def find_pair(
    config: str,
    control: str | None = None,
    options: Mapping[str, Any] | None = None,
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
        options: Values of ``--cfg-options`` for both configs.

    Returns:
        The frozen variant and its control.

    Raises:
        FileNotFoundError: If a config is missing.
        ValueError: If a config does not load, or an option is not valid.
    """
    options = options or {}

    def variant(label: str, config: str, change: Change = 'none') -> Variant:
        cfg = load_config(config, options)
        return Variant(label, config, change, cfg, options)

    if control == AS_WRITTEN:
        return (
            variant('frozen', config, 'freeze'),
            variant('as written', config),
        )
    if control is not None:
        return variant('frozen', config), variant('control', control)
    path = Path(config)
    folder = state_of_folder(path)
    experiment = config_in_state(path, 'frozen')
    if folder in CONTROLS and experiment.is_file():
        frozen = variant('frozen', str(experiment))
        return frozen, variant('fine-tuned', config)
    sibling = config_in_state(path, 'finetuned')
    if folder == 'frozen' and sibling.is_file():
        return variant('frozen', config), variant('fine-tuned', str(sibling))
    thawed = variant('fine-tuned', config, 'thaw')
    is_ours = folder == 'frozen' or _says_frozen(thawed.cfg.model)
    return variant('frozen', config, 'none' if is_ours else 'freeze'), thawed


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
