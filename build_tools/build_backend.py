"""Build wheels with setuptools, and put `mmfrozen.pth` into each.

setuptools has no option for a `.pth` file that works for both wheels and
editable installs. pip calls a PEP 517 and PEP 660 backend for either of them.
This backend adds the file to the wheel that setuptools has built, so that pip
installs and removes it like every other file of the package.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the other hooks, as they are

NAME = 'mmfrozen.pth'
CONTENT = b'import mmfrozen_ext; mmfrozen_ext.install()\n'


def build_wheel(directory: str, *args: Any, **kwargs: Any) -> str:
    """Build a wheel; return its name, as PEP 517 requires."""
    return _with_pth(build_meta.build_wheel, directory, args, kwargs)


def build_editable(directory: str, *args: Any, **kwargs: Any) -> str:
    """Build an editable wheel; return its name, as PEP 660 requires."""
    return _with_pth(build_meta.build_editable, directory, args, kwargs)


def _with_pth(
    build: Callable[..., str], directory: str, args: Any, kwargs: Any
) -> str:
    name = build(directory, *args, **kwargs)
    wheel = Path(directory, name)
    changed = wheel.with_suffix('.part')
    digest = base64.urlsafe_b64encode(hashlib.sha256(CONTENT).digest())
    row = f'{NAME},sha256={digest.rstrip(b"=").decode()},{len(CONTENT)}\n'
    with (
        zipfile.ZipFile(wheel) as built,
        zipfile.ZipFile(changed, 'w', zipfile.ZIP_DEFLATED) as out,
    ):
        out.writestr(NAME, CONTENT)
        for entry in built.infolist():
            data = built.read(entry)
            if entry.filename.endswith('.dist-info/RECORD'):
                data = row.encode() + data
            out.writestr(entry, data)
    os.replace(changed, wheel)
    return name
