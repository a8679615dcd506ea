"""Builder of mini-LVIS on disk, which either completes or leaves nothing.

The annotation files have LVIS v1's layout and category list. There is no
offline source for the official senses: every `synset` is the placeholder
`NAME.n.01` and every `def` is empty.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..lock import locked
from ..version import __version__
from .annotations import INFO, LICENSES, category_records
from .materials import digest_materials, load_category_names, load_materials
from .plan import ImagePlan, flat_counts, long_tail_counts, plan_images
from .split import Split

MANIFEST = 'mini_lvis.json'
VAL_EVERY = 4  # every fourth photograph is used for validation only
SCRATCH = '.mini_lvis-'

Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Parameters:
    """Parameters that, with the package's version, determine a dataset."""

    num_train: int = 1000
    num_val: int = 250
    height: int = 256
    width: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ('num_train', 1),
            ('num_val', 1),
            ('height', 64),
            ('width', 64),
            ('seed', 0),
        ):
            value = getattr(self, name)
            if value < least:
                raise ValueError(
                    f'{name} must be at least {least}, got {value}. '
                    f'Choose a larger {name}.'
                )


def build(
    out: Path,
    parameters: Parameters,
    *,
    force: bool = False,
    track: Track = lambda items, _: items,
) -> bool:
    """Write a dataset into a new folder.

    Args:
        out: Folder of the dataset. It appears when the dataset is complete.
        parameters: Parameters of the dataset.
        force: Whether to replace an unmodified mini-LVIS of other parameters.
        track: Function that wraps the images of a split to show progress.

    Returns:
        False if `out` already is this dataset.

    Raises:
        ValueError: If `out` holds something that must not be replaced.
        RuntimeError: If `out` is a mini-LVIS that was modified later.
    """
    out = Path(out).resolve()
    recipe = {
        'mmfrozen': __version__,
        'materials_sha256': digest_materials(),
        'parameters': asdict(parameters),
    }
    if _is_made(out, recipe, force):
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with _scratch_folder(out.parent) as scratch:
        fresh = scratch / 'fresh'
        _write_set(fresh, parameters, track)
        manifest = {**recipe, 'files_sha256': digest_files(fresh)}
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + '\n')
        if out.exists():
            out.rename(scratch / 'former')
        fresh.rename(out)
    return True


@contextlib.contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """Create a temporary folder, and remove those that killed runs left.

    Each run holds a lock on its folder, which ends with its process.
    """
    for left in parent.glob(f'{SCRATCH}*'):
        with contextlib.suppress(OSError), locked(left):
            if any(left.iterdir()):  # an empty one may be of a starting run
                shutil.rmtree(left)
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH, dir=parent) as scratch,
        contextlib.ExitStack() as held,
    ):
        with contextlib.suppress(OSError):  # some disks have no locks
            held.enter_context(locked(Path(scratch)))
        yield Path(scratch)


def digest_files(root: Path) -> str:
    """Return a SHA-256 over names and contents of all but the manifest."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob('*')):
        name = path.relative_to(root).as_posix()
        if path.is_file() and name != MANIFEST:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f'{name} {content}\n'.encode())
    return digest.hexdigest()


def _is_made(out: Path, recipe: dict[str, Any], force: bool) -> bool:
    """Return whether the dataset is complete, or False for a free path; raise
    an error for anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        manifest = json.loads((out / MANIFEST).read_text())
        former = {name: manifest[name] for name in recipe}
        files_sha256 = manifest['files_sha256']
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f'--out must be a new folder or an earlier mini-LVIS, got {out}, '
            'which holds something else. Choose another --out.'
        ) from None
    if files_sha256 != digest_files(out):
        raise RuntimeError(
            f'a mini-LVIS must be as {MANIFEST} records it, got changed, '
            f'missing or added files in {out}. Remove it yourself.'
        )
    if former != recipe and not force:
        raise ValueError(
            '--out must be a new folder or this same set, got a mini-LVIS of '
            f'other parameters or version in {out}. Use --force to replace '
            'it, or another --out.'
        )
    return former == recipe


def _write_set(root: Path, parameters: Parameters, track: Track) -> None:
    rng = np.random.default_rng(parameters.seed)
    materials = load_materials()
    # shuffled by the seed, so that class frequencies are arbitrary
    names = rng.permutation(sorted(materials.sprites)).tolist()
    ids = {name: load_category_names().index(name) + 1 for name in names}
    photographs = materials.photographs
    held_out = photographs[::VAL_EVERY]
    kept = [
        photograph
        for index, photograph in enumerate(photographs)
        if index % VAL_EVERY
    ]
    splits = {}
    for name, count, num_images, backgrounds in (
        ('train', long_tail_counts, parameters.num_train, kept),
        ('val', flat_counts, parameters.num_val, held_out),
    ):
        split = Split(
            name,
            parameters.seed,
            (parameters.height, parameters.width),
            ids,
            replace(materials, photographs=tuple(backgrounds)),
        )
        plans = plan_images(rng, count(len(ids), num_images), num_images)
        splits[name] = _write_images(root, split, plans, track)
    categories = category_records(splits['train']['annotations'])
    (root / 'annotations').mkdir()
    for name, records in splits.items():
        content = {
            'info': INFO,
            'licenses': LICENSES,
            'categories': categories,
            **records,
        }
        path = root / 'annotations' / f'lvis_v1_{name}.json'
        path.write_text(json.dumps(content, separators=(',', ':')))


def _write_images(
    root: Path, split: Split, plans: list[ImagePlan], track: Track
) -> dict[str, list[dict[str, Any]]]:
    folder = root / f'{split.name}2017'
    folder.mkdir(parents=True)
    images, annotations = [], []
    for index, plan in enumerate(track(plans, split.name)):
        image, found = split.write_image(index, plan, folder)
        images.append(image)
        annotations += found
    for index, annotation in enumerate(annotations, start=1):
        annotation['id'] = index
    return {'images': images, 'annotations': annotations}
