"""Turn a config into a frozen one and its control, and verify both."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mmdet
from mmengine.config import Config
from mmengine.utils import get_installed_path
from torch import nn

from ..freezing import find_faults
from ..records import ParameterCounts
from . import meta
from .decide import (
    CannotFreezeError,
    Plan,
    decide,
    explain,
    find_backbones,
    is_detectors,
)
from .text import control_text, frozen_text

ZOO = Path(mmdet.__file__).parent / '.mim' / 'configs'
# As reported by the paper (quoted in a review, not checked): with 26 % of
# the parameters trainable freezing lost 6.5 AP, 40 % drew, 54 % won 0.7.
ENOUGH = 0.4
CAPACITY = (
    'only {:.0%} of the parameters train: with a plain FPN and 26 % the '
    "paper's frozen backbone lost 6.5 AP on COCO, 40 % drew, 54 % won (as "
    'quoted in a review of it); give neck and heads more, such as NAS-FPN '
    'and cascade heads'
)


@dataclass(frozen=True)
class Result:
    """A frozen config and its control, verified.

    Attributes:
        plan: What was set and why.
        frozen: Text of the frozen config.
        counts: Parameters when frozen; None if only the backbone builds.
        warnings: What the user has to see to.
    """

    plan: Plan
    frozen: str
    counts: ParameterCounts | None
    warnings: list[str]


def locate(config: str) -> Path:
    """Find a config by path or ``mmdet::`` name.

    Raises:
        FileNotFoundError: If there is none.
    """
    scope, found, name = config.rpartition('::')
    path = Path(config).expanduser()
    if found:
        path = Path(get_installed_path(scope), '.mim', 'configs', name)
    if not path.is_file():
        raise FileNotFoundError(
            'CONFIG must be an existing config or mmdet::FOLDER/NAME.py, got '
            f'{config!r}. Correct the path.'
        )
    return path.resolve()


def control_path(out: Path) -> Path:
    """Name the control of a frozen config.

    The folder is the state: ``frozen/X.py`` has ``finetuned/X.py``. In any
    other folder it is ``X_finetuned.py`` beside it.
    """
    if out.parent.name == 'frozen':
        return out.parent.parent / 'finetuned' / out.name
    return out.with_name(f'{out.stem}_finetuned.py')


def freeze_config(source: Path, out: Path | None = None) -> Result:
    """Freeze a config, write it with its control, and verify the files.

    Args:
        source: The config, as :func:`locate` returns it.
        out: Where the frozen config goes; its control goes to
            :func:`control_path`. Files there are replaced. None leaves
            nothing behind; the text then fits into the working directory.

    Raises:
        CannotFreezeError: If it cannot be frozen. Nothing is left changed.
    """
    plan = decide(load(source))
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder, 'frozen', source.with_suffix('.py').name)
        _write(_texts(plan, source, trial, None))
        counts, warnings = verify(trial)
    target = out or Path(source.with_suffix('.py').name).absolute()
    texts = _texts(plan, source, target, counts)
    if out:
        before = {p: p.read_bytes() for p in texts if p.is_file()}
        _write(texts)
        try:
            verify(out)
        except BaseException:
            for path in texts:
                path.unlink()
            for path, content in before.items():
                path.write_bytes(content)
            raise
    return Result(plan, texts[target], counts, [*plan.warnings, *warnings])


def load(path: Path) -> Config:
    """Load a config, or say in one line why it cannot be."""
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program
        raise CannotFreezeError(
            f'A config must load here, got {explain(error)}. Mend it or '
            'install what it needs.'
        ) from error


def verify(out: Path) -> tuple[ParameterCounts | None, list[str]]:
    """Read a frozen config and its control from disk and build both.

    Returns:
        Parameters of the frozen detector, and warnings. Where only the
        backbone builds here there are no counts.

    Raises:
        CannotFreezeError: If the backbone is not frozen, or if the control
            does not train all of it.
    """
    model, warnings = _build(load(out))
    for name, module in _backbones(model):
        moving = [n for n, p in module.named_parameters() if p.requires_grad]
        model.train()
        faults = find_faults(module)
        if moving or faults:
            raise CannotFreezeError(
                f'{name} must be frozen by what was written, got '
                f'{"; ".join(faults) or "parameters that require grad"}. '
                'Please report this config.'
            )
    control, _ = _build(load(control_path(out)))
    control.train()
    for name, module in _backbones(control):
        params = module.named_parameters()
        idle = [n for n, p in params if not p.requires_grad]
        if idle:
            raise CannotFreezeError(
                f'{name} must train every stage in the control, got '
                f'{len(idle)} frozen parameters, the first is {idle[0]}. '
                'Please report this config.'
            )
    if warnings:
        return None, warnings
    counts = _count(model)
    share = counts.trainable / counts.total
    if share < ENOUGH:
        warnings.append(CAPACITY.format(share))
    return counts, warnings


def _build(cfg: Config) -> tuple[nn.Module, list[str]]:
    """Build the model, or what of it builds here: its backbones."""
    try:
        return meta.build(cfg.model), []
    except Exception as error:  # whatever a constructor raises
        model = nn.Module()
        for path, settings in find_backbones(cfg.model):
            if is_detectors(path):
                model.add_module(path.replace('.', '_'), nn.Module())
                part = getattr(model, path.replace('.', '_'))
                part.backbone = meta.build(settings)
        return model, [
            f'the backbone was verified alone, since the rest does not build '
            f'here ({explain(error)})'
        ]


def _backbones(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found = [(n, m) for n, m in model.named_modules() if is_detectors(n)]
    assert found, 'the plan names at least one'
    return found


def _count(model: nn.Module) -> ParameterCounts:
    """Count what is one detector: no teacher, no tracker's second network."""
    sizes = [
        (p.numel(), p.requires_grad)
        for name, p in model.named_parameters()
        if not name.startswith(('teacher.', 'reid.'))
    ]
    return ParameterCounts(
        total=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )


def _texts(
    plan: Plan, source: Path, out: Path, counts: ParameterCounts | None
) -> dict[Path, str]:
    control = control_path(out)
    names = ' and '.join(one.name for one in plan.backbones)
    trains = ''
    if counts:
        trains = (
            f'Trains {counts.trainable / 1e6:.1f} M of '
            f'{counts.total / 1e6:.1f} M parameters '
            f'({counts.trainable / counts.total:.1%}). '
        )
    command = '    mim train mmdet {}\n\n'
    base = reference(source, out.parent)
    own = reference(out, control.parent)
    return {
        out: frozen_text(
            plan,
            base,
            f'{source.stem} on a frozen {names}.\n\n'
            f'{command.format(out.name)}{trains}AP: not run.\n',
        ),
        control: control_text(
            plan,
            own,
            f'Control of {own}: every stage trains.\n\n'
            f'{command.format(control.name)}AP: not run.\n',
        ),
    }


def _write(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def reference(path: Path, folder: Path) -> str:
    """Write a base so that it is found from a folder."""
    if path.is_relative_to(ZOO):
        return f'mmdet::{path.relative_to(ZOO).as_posix()}'
    return Path(os.path.relpath(path, folder)).as_posix()
