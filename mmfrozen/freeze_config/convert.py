"""Turn a config into a frozen one and its control, and verify both."""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mmdet
from mmengine.config import Config

from ..atomic_write import write_bytes, write_text
from ..errors import did_you_mean
from ..pairing import config_in_state
from ..run_files import ParameterCounts
from .batched import batched_types, image_by_image
from .decide import Plan, decide
from .notes import take_notes, warn
from .reliable import reliable_settings
from .text import control_text, frozen_text
from .verify import load, verify

ZOO = Path(mmdet.__file__).with_name('.mim').joinpath('configs').resolve()


@dataclass(frozen=True)
class Result:
    """A frozen config and its control, verified.

    Attributes:
        plan: What was set.
        frozen: Text of the frozen config.
        counts: Parameters when frozen; None if only the backbone builds.
        notes: What was left as it is, and why.
        warnings: What the user has to see to.
    """

    plan: Plan
    frozen: str
    counts: ParameterCounts | None
    notes: list[str]
    warnings: list[str]


def locate(config: str) -> Path:
    """Find a config by path or ``mmdet::`` name.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(config).expanduser()
    if config.startswith('mmdet::'):
        path = ZOO / config.removeprefix('mmdet::')
    if not path.is_file():
        siblings = [file.name for file in path.parent.glob('*.py')]
        raise FileNotFoundError(
            'CONFIG must be an existing config or mmdet::FOLDER/NAME.py, got '
            f'{config!r}{did_you_mean(path.name, siblings)}. Correct the path.'
        )
    return path.resolve()


def control_path(out: Path) -> Path:
    """Name the control of a frozen config.

    The folder is the state: ``frozen/X.py`` has ``finetuned/X.py``. In any
    other folder it is ``X_finetuned.py`` beside it.
    """
    if out.parent.name == 'frozen':
        return config_in_state(out, 'finetuned')
    return out.with_name(f'{out.stem}_finetuned.py')


def freeze_config(
    source: Path,
    out: Path | None = None,
    *,
    fast: bool = False,
    reliable: bool = False,
) -> Result:
    """Freeze a config, write it with its control, and verify the files.

    Args:
        source: The config, as :func:`locate` returns it.
        out: Where the frozen config goes; its control goes to
            :func:`control_path`. Files there are replaced. None leaves
            nothing behind; the text then fits into the working directory.
        fast: Take the types whose step does not grow with the batch, too.
        reliable: Take what a run survives by, too (docs/reliability.md).

    Raises:
        CannotFreezeError: If it cannot be frozen. Nothing is left changed.
    """
    cfg = load(source)
    plan = decide(cfg)
    stay: list[str] = []
    if fast:
        types, stay = batched_types(cfg.model)
        plan = replace(plan, types=types)
    if reliable:
        settings, more = reliable_settings(cfg)
        plan, stay = replace(plan, reliable=settings), [*stay, *more]
    warnings = list(warn(cfg, plan))
    name = source.with_suffix('.py').name
    with tempfile.TemporaryDirectory() as folder:
        trial = out or Path(folder, 'frozen', name)
        # mmengine takes half a second to find what starts with mmdet::
        base = reference(source, out.parent) if out else source.as_posix()
        counts, more = _write_verified(_texts(plan, base, trial), cfg)
        if fast:
            stay += image_by_image(load(trial).model)
    target = out or Path.cwd() / name
    base = reference(source, target.parent)
    texts = _texts(plan, base, target, counts, warnings)
    if out:
        _write(texts)  # once more, with the counts in the docstring
    notes = [*take_notes(cfg, plan), *stay]
    return Result(plan, texts[target], counts, notes, [*warnings, *more])


def _write_verified(
    texts: dict[Path, str], cfg: Config
) -> tuple[ParameterCounts | None, list[str]]:
    """Write, verify, and put back what was there if that fails."""
    before = {p: p.read_bytes() for p in texts if p.is_file()}
    try:
        _write(texts)
        return verify(cfg, *texts)
    except BaseException:
        for path in texts:
            if path not in before:
                if path.is_file():
                    path.unlink()
            elif path.read_bytes() != before[path]:
                write_bytes(path, before[path])
        raise


def _texts(
    plan: Plan,
    base: str,
    out: Path,
    counts: ParameterCounts | None = None,
    warnings: Sequence[str] = (),
) -> dict[Path, str]:
    control = control_path(out)
    names = ' and '.join(one.name for one in plan.backbones)
    trains = 'Parameters: not counted. '
    if counts:
        trains = (
            f'Trains {counts.trainable / 1e6:.1f} M of '
            f'{counts.total / 1e6:.1f} M parameters '
            f'({counts.trainable / counts.total:.1%}). '
        )
    warned = [f'\n{textwrap.fill(f"{w}.", 79)}\n' for w in warnings]
    command = '    mim train mmdet {}\n\n'
    own = reference(out, control.parent)
    return {
        out: frozen_text(
            plan,
            base,
            f'{Path(base).stem} on a frozen {names}.\n\n'
            f'{command.format(_relative(out, Path.cwd()))}'
            f'{trains}AP: not run.\n{"".join(warned)}',
        ),
        control: control_text(
            plan,
            own,
            f'Control of {own}: every stage trains.\n\n'
            f'{command.format(_relative(control, Path.cwd()))}'
            'AP: not run.\n',
        ),
    }


def _write(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        write_text(path, text)


def reference(path: Path, folder: Path) -> str:
    """Write a base so that it is found from a folder."""
    if path.is_relative_to(ZOO):
        return f'mmdet::{path.relative_to(ZOO).as_posix()}'
    return _relative(path, folder)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
