"""Generator of one split: its images, their records and their annotations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .annotations import annotation_record, image_record
from .compose import compose, texture_patch
from .materials import Materials
from .plan import ImagePlan

JPEG_QUALITY = 90
NUM_NEGATIVES = 8  # negative categories listed for an image
FIRST_IMAGE_ID = {'train': 1, 'val': 900_001}
TEXTURE_PROBABILITY = 0.4  # that clutter is a piece of a photograph


@dataclass(frozen=True)
class Thing:
    """Sprite to paint; clutter has no category id."""

    sprite: np.ndarray
    category_id: int | None = None
    is_annotated: bool = False


@dataclass(frozen=True)
class Split:
    """Settings shared by the images of a split.

    Attributes:
        name: 'train' or 'val'.
        seed: Seed of the dataset.
        size: (height, width) of the images, in pixels.
        category_ids: Category id by class name, in the order of the plans'
            indices.
        materials: Materials, with the photographs of this split only.
    """

    name: str
    seed: int
    size: tuple[int, int]
    category_ids: dict[str, int]
    materials: Materials

    def write_image(
        self, index: int, plan: ImagePlan, folder: Path
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Write image `index` and return its record and annotations.

        Its content depends on the arguments only, not on other images.
        """
        image_id = FIRST_IMAGE_ID[self.name] + index
        rng = np.random.default_rng([self.seed, image_id])
        things = self._draw_things(rng, plan)
        image, masks = compose(
            rng,
            self.materials.photographs,
            [thing.sprite for thing in things],
            *self.size,
        )
        record = image_record(image_id, self.name, *self.size)
        record['neg_category_ids'] = self._draw_absent(rng, things)
        record['not_exhaustive_category_ids'] = sorted(
            {
                things[item].category_id
                for item in masks
                if things[item].category_id and not things[item].is_annotated
            }
        )
        _, jpeg = cv2.imencode(
            '.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        (folder / f'{image_id:012}.jpg').write_bytes(jpeg)
        return record, [
            annotation_record(image_id, things[item].category_id, mask)
            for item, mask in masks.items()
            if things[item].is_annotated
        ]

    def _draw_things(
        self, rng: np.random.Generator, plan: ImagePlan
    ) -> list[Thing]:
        """Choose a sprite for each thing; the first is topmost."""
        names = list(self.category_ids)

        def draw(index: int, is_annotated: bool) -> Thing:
            variants = self.materials.sprites[names[index]]
            sprite = variants[rng.integers(len(variants))]
            return Thing(sprite, self.category_ids[names[index]], is_annotated)

        things = [draw(index, True) for index in plan.annotated]
        things += [draw(index, False) for index in plan.left_out]
        clutter = self.materials.clutter
        for _ in range(plan.num_clutter):
            if rng.random() < TEXTURE_PROBABILITY:
                patch = texture_patch(rng, self.materials.photographs)
                things.append(Thing(patch))
            else:
                things.append(Thing(clutter[rng.integers(len(clutter))]))
        return [things[item] for item in rng.permutation(len(things))]

    def _draw_absent(
        self, rng: np.random.Generator, things: list[Thing]
    ) -> list[int]:
        present = {thing.category_id for thing in things}
        absent = [
            category_id
            for category_id in self.category_ids.values()
            if category_id not in present
        ]
        chosen = rng.choice(absent, NUM_NEGATIVES, replace=False)
        return sorted(chosen.tolist())
