"""This module derives a frozen config and its fine-tuned control from a config
of MMDetection, writes both and verifies them."""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config

from ..atomic_write import write_bytes, write_text
from ..config_file import ZOO
from ..pairing import config_in_state
from ..run_files import ParameterCounts
from .batched import batched_types, image_by_image
from .decide import Plan, decide
from .notes import take_notes, warn
from .reliable import reliable_settings
from .text import control_text, frozen_text
from .verify import load, verify


@dataclass(frozen=True)
class Result:
    """Outcome of freezing a config.

    Attributes:
        plan: The settings of the written configs.
        frozen: Text of the frozen config.
        counts: Parameter counts when frozen; None if only the backbone could
            be built.
        notes: Lines on settings that were left unchanged, with the reason.
        warnings: Lines on what the user has to check or correct.
    """

    plan: Plan
    frozen: str
    counts: ParameterCounts | None
    notes: list[str]
    warnings: list[str]


def control_path(out: Path) -> Path:
    """Return the path of a frozen config's control.

    The control of ``frozen/X.py`` is ``finetuned/X.py``. In a folder of any
    other name it is ``X_finetuned.py`` beside the config.
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
        source: The config, as :func:`~mmfrozen.config_file.locate`
            returns it.
        out: Path of the frozen config; its control is written to
            :func:`control_path`. Existing files are replaced. None writes
            only temporary files; the returned text is then meant for a file
            in the working directory.
        fast: Also set the batched types, which process the images of a batch
            together.
        reliable: Also set the hooks, loop and runner that survive failures
            (docs/reliability.md).

    Returns:
        Plan, text, parameter counts, notes and warnings.

    Raises:
        CannotFreezeError: If the config cannot be frozen. Existing files are
            then unchanged.
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
        # mmengine takes half a second to resolve a base with mmdet::
        base = reference(source, out.parent) if out else source.as_posix()
        counts, more = _write_verified(_texts(plan, base, trial), cfg)
        if fast:
            stay += image_by_image(load(trial).model)
    target = out or Path.cwd() / name
    base = reference(source, target.parent)
    texts = _texts(plan, base, target, counts, warnings)
    if out:
        _write(texts)  # again, now with the counts in the docstring
    notes = [*take_notes(cfg, plan), *stay]
    return Result(plan, texts[target], counts, notes, [*warnings, *more])


def _write_verified(
    texts: dict[Path, str], cfg: Config
) -> tuple[ParameterCounts | None, list[str]]:
    """Write the files and verify them; on failure restore earlier files.

    Returns:
        Parameter counts and warnings of :func:`verify`.
    """
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
    """Return a path as a config in a folder would write it in ``_base_``."""
    if path.is_relative_to(ZOO):
        return f'mmdet::{path.relative_to(ZOO).as_posix()}'
    return _relative(path, folder)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
