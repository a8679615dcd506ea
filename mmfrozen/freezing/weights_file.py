"""This module checks a weights file before training."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

# Matches names such as resnet101-63fe2227.pth: torch and OpenMMLab put the
# start of the SHA-256 into the names of published files. A date (-20220307) is
# not a hash.
HASH_IN_NAME = re.compile(r'-(?=\d*[a-f])([0-9a-f]{8,64})\.\w+$')


def is_local(checkpoint: str) -> bool:
    """Return whether a checkpoint is a file, not a URL or
    ``torchvision://``."""
    return '://' not in checkpoint


def check_file(path: str, key: str, expected: str | None = None) -> None:
    """Check that a weights file exists, is complete and matches the hash in
    its name.

    Args:
        path: A ``.safetensors`` file or one written by ``torch.save``.
        key: Config key that names it, for error messages.
        expected: Start of its SHA-256; by default the one in its name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or has another SHA-256.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f'{key} must be an existing file, a URL or torchvision://NAME, '
            f'got {path!r}. Correct the path or download the file.'
        )
    match = HASH_IN_NAME.search(file.name)
    source = '' if expected or not match else ', as its name says'
    expected = expected or (match[1] if match else '')
    actual = sha256(file) if expected else ''
    if not actual.startswith(expected):
        raise ValueError(
            f'{key} must have SHA-256 {expected}{source}, got '
            f'{actual[: len(expected)]} for {path!r}. Download it again, or '
            'rename it if it is meant to differ.'
        )
    if not _is_whole(file):
        raise ValueError(
            f'{key} must be a complete weights file, got {path!r} '
            f'({file.stat().st_size} bytes), which is truncated or not a '
            'weights file. Download it again.'
        )


def sha256(file: Path) -> str:
    """Hash a file without reading all of it into memory."""
    state = hashlib.sha256()
    with file.open('rb') as stream:
        while block := stream.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def _is_whole(file: Path) -> bool:
    if file.suffix == '.safetensors':
        try:
            with safe_open(file, framework='np'):
                return True
        except SafetensorError:
            return False
    with file.open('rb') as stream:
        start = stream.read(2)
    # The directory of a zip is its last part. Files from before torch 1.6 are
    # bare pickles (0x80) or tar archives, which cannot be checked without
    # reading them.
    return (
        zipfile.is_zipfile(file)
        if start == b'PK'
        else (start[:1] == b'\x80' or not file.suffix.startswith('.pt'))
    )
