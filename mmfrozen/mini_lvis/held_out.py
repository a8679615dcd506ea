"""This module holds out a part of the training images, so that learning rates
are chosen without the validation images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..atomic_write import write_text

EVERY = 5  # every fifth image is held out


def hold_out(annotations: Path, folder: Path) -> tuple[Path, Path]:
    """Split a training set into one to train on and one to evaluate on.

    The data set assigns classes to images at random, so that every fifth
    image in the order of the file is a random sample. Categories keep the
    frequency group that they have in the whole training set.

    Args:
        annotations: Annotation file of the training images, in LVIS format.
        folder: Folder of the two files; existing ones are replaced.

    Returns:
        Paths of the annotation files to train and to evaluate on.
    """
    whole = json.loads(annotations.read_text())
    held_out = {image['id'] for image in whole['images'][::EVERY]}
    files = folder / 'train.json', folder / 'val.json'
    for file, is_held_out in zip(files, (False, True), strict=True):
        part: dict[str, Any] = {
            **whole,
            'images': [
                image
                for image in whole['images']
                if (image['id'] in held_out) == is_held_out
            ],
            'annotations': [
                annotation
                for annotation in whole['annotations']
                if (annotation['image_id'] in held_out) == is_held_out
            ],
        }
        write_text(file, json.dumps(part, separators=(',', ':')))
    return files
