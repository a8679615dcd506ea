"""Provide `mmcv._ext` if mmcv has no compiled operators that load.

`pip install` puts `mmfrozen.pth` beside this module. Python reads it at
every start, so that `import mmcv.ops` works in every program, also in one
that imports MMDetection before `mmfrozen`, and in spawned workers.
`pip uninstall mmfrozen` removes both files.

The finder handles only the name `mmcv._ext`. A compiled module that loads is
always preferred; otherwise `mmfrozen/ops` is loaded under that name. Large
packages are imported only when `mmcv.ops` is imported.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

OPS = Path(__file__).resolve().parent / 'mmfrozen' / 'ops'
REMEDY = (
    'pip uninstall -y mmcv mmcv-full mmcv-lite; pip install mmcv-lite==2.1.0'
)


def install() -> None:
    """Register the finder first in line. Calling it again changes nothing."""
    if not any(isinstance(f, MmcvExtFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, MmcvExtFinder())


class MmcvExtFinder:
    """Finder of mmcv's operators, compiled ones if possible."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find `mmcv._ext`; every other name is left to Python.

        Raises:
            ImportError: If the version of mmcv or torchvision does not fit;
                the message is one line.
        """
        if name != 'mmcv._ext':
            return None
        compiled = importlib.machinery.PathFinder.find_spec(name, path)
        if compiled is not None and _loads(compiled):
            return None  # Python finds it again
        _check_stand_in()
        return importlib.util.spec_from_file_location(
            name,
            OPS / '__init__.py',
            submodule_search_locations=[str(OPS)],
        )


def is_compiled(ext: ModuleType) -> bool:
    """Return whether a loaded `mmcv._ext` is mmcv's own."""
    return ext.__file__ != str(OPS / '__init__.py')


def check() -> None:
    """Import MMDetection and mmcv's operators, and check that they fit.

    Raises:
        ImportError: If they do not fit; one line that says what to install.
    """
    try:
        import mmcv
        import mmcv.ops  # noqa: F401
        import mmdet  # noqa: F401
    except AssertionError as error:  # MMDetection's own check of mmcv
        raise ImportError(f'{error} Run `{REMEDY}`.') from error
    except ModuleNotFoundError as error:
        if error.name not in ('mmcv', 'mmdet'):
            raise
        raise ImportError(
            f'mmfrozen must find {error.name}, got none. Run `pip install '
            'mmdet==3.3.0 mmcv-lite==2.1.0`.'
        ) from error
    both = _versions('mmcv', 'mmcv-full', 'mmcv-lite')
    if ',' in both:
        _say(
            'one of mmcv and mmcv-lite must be installed, since they '
            f'overwrite one another, got {both}. Run `{REMEDY}`.'
        )


def _check_stand_in() -> None:
    import mmcv

    if not mmcv.__version__.startswith(('2.0.', '2.1.')):
        raise ImportError(
            'The operators of mmfrozen must serve mmcv 2.1 (or 2.0), got '
            f'mmcv {mmcv.__version__}. Run `{REMEDY}`.'
        )
    try:
        import torch
        import torchvision  # noqa: F401

        _ = torch.ops.torchvision.nms  # missing if built for another torch
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise ImportError(
            'torchvision must be installed and match torch, got '
            f'{_versions("torch", "torchvision")} ({_first_line(error)}). '
            'Install both at once: `pip install torch torchvision`.'
        ) from error


def _loads(compiled: importlib.machinery.ModuleSpec) -> bool:
    try:
        importlib.util.module_from_spec(compiled)
    except ImportError as error:
        reason = _first_line(error).removeprefix(f'{compiled.origin}: ')
        _say(
            "mmcv's compiled operators must be built for the installed torch, "
            f'got {compiled.origin} ({reason}). The operators of '
            'mmfrozen are used in their place; to be rid of this line run '
            f'`{REMEDY}`.'
        )
        return False
    return True


def _say(line: str) -> None:
    """Print a warning, except in other ranks and in worker processes."""
    processes = sys.modules.get('multiprocessing.process')
    is_child = processes is not None and processes.parent_process() is not None
    if os.environ.get('LOCAL_RANK', '0') == '0' and not is_child:
        print(f'warning: {line}', file=sys.stderr)


def _versions(*names: str) -> str:
    """Return names and versions of the installed ones of distributions."""
    found = []
    for name in names:
        try:
            found.append(f'{name} {importlib.metadata.version(name)}')
        except importlib.metadata.PackageNotFoundError:
            continue
    return ', '.join(found) or 'none of them'


def _first_line(error: Exception) -> str:
    return str(error).partition('\n')[0] or type(error).__name__
