"""Loaders of the pictures of which mini-LVIS is composed; see
materials/LICENSES.md for their sources."""

import functools
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(__file__).parent / 'materials'
CLUTTER = 'clutter'  # folder of sprites without an LVIS v1 class


@dataclass(frozen=True)
class Materials:
    """Decoded pictures, all uint8.

    Attributes:
        sprites: Variants by LVIS v1 class name, each (H, W, 4) BGRA.
        clutter: Sprites without a class, each (H, W, 4) BGRA.
        photographs: Backgrounds without any object of a sprite's class,
            each (H, W, 3) BGR.
    """

    sprites: dict[str, tuple[np.ndarray, ...]]
    clutter: tuple[np.ndarray, ...]
    photographs: tuple[np.ndarray, ...]


def _read_pictures(file_name: str) -> list[tuple[str, np.ndarray]]:
    with zipfile.ZipFile(FOLDER / file_name) as archive:
        return [
            (
                name,
                cv2.imdecode(
                    np.frombuffer(archive.read(name), np.uint8),
                    cv2.IMREAD_UNCHANGED,
                ),
            )
            for name in archive.namelist()
        ]


@functools.cache
def load_materials() -> Materials:
    """Decode all pictures once per process, in the archives' order."""
    groups: dict[str, list[np.ndarray]] = {}
    for path, sprite in _read_pictures('sprites.zip'):
        groups.setdefault(path.split('/')[0], []).append(sprite)
    clutter = tuple(groups.pop(CLUTTER))
    return Materials(
        sprites={name: tuple(group) for name, group in groups.items()},
        clutter=clutter,
        photographs=tuple(
            photograph for _, photograph in _read_pictures('photographs.zip')
        ),
    )


@functools.cache
def load_category_names() -> tuple[str, ...]:
    """Return LVIS v1's 1,203 names; category id N is item N - 1."""
    text = (FOLDER / 'category_names.txt').read_text(encoding='utf-8')
    return tuple(text.splitlines())  # one name has a space


def digest_materials() -> str:
    """Return a SHA-256 over the files that determine the images."""
    digest = hashlib.sha256()
    for name in ('category_names.txt', 'photographs.zip', 'sprites.zip'):
        digest.update((FOLDER / name).read_bytes())
    return digest.hexdigest()
