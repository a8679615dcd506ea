"""Draw example images with the detections of two runs side by side."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pycocotools import mask as mask_utils

from ...evaluation.detections import DetectionArrays
from ...evaluation.ground_truth import GroundTruth
from ..page import COLOURS
from .example_panel import Crop, Panel, crop_around, join_panels, outlines
from .image_files import ImageFiles

MAX_DETECTIONS = 3  # detections in a panel
MAX_OBJECTS = 20  # objects tried until an image can be read
RUN_COLOURS = (COLOURS['frozen'], COLOURS['finetuned'])


@dataclass(frozen=True)
class Example:
    """An example image of one class.

    Attributes:
        image_id: Id of the image that it is cropped from.
        jpeg: Content of a JPEG file, with one panel per run.
    """

    image_id: int
    jpeg: bytes

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return f'data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}'


@dataclass(frozen=True)
class _ClassDetections:
    """The N detections of one class.

    Attributes:
        run: All detections of the run.
        has_masks: Whether to show masks rather than boxes.
        rows: (N,) positions in ``run``.
        image_ids: (N,) image ids.
        scores: (N,) scores, of the masks if they have their own.
        boxes: (N, 4) x, y, width, height in pixels.
    """

    run: DetectionArrays
    has_masks: bool
    rows: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]

    @classmethod
    def select(
        cls, run: DetectionArrays, category_id: int, has_masks: bool
    ) -> _ClassDetections:
        rows = np.flatnonzero(run.category_ids == category_id)
        assert run.boxes is not None  # result files are read with boxes
        own = run.mask_scores if has_masks else None
        scores = run.scores if own is None else own
        return cls(
            run,
            has_masks,
            rows,
            run.image_ids[rows],
            scores[rows],
            run.boxes[rows],
        )

    def rle(self, index: int) -> dict[str, Any] | None:
        """Return the RLE mask of a detection; None if boxes are shown."""
        if not self.has_masks or self.run.masks is None:
            return None
        found: dict[str, Any] = self.run.masks.rles(self.rows[[index]])[0]
        return found

    def highest(self, image_id: int, crop: Crop) -> list[int]:
        """Return the best detections whose centres are in the crop.

        Returns:
            At most ``MAX_DETECTIONS`` indices, highest score first.
        """
        middle = self.boxes[:, :2] + self.boxes[:, 2:] / 2
        inside = (
            (self.image_ids == image_id)
            & (middle >= crop[:2]).all(axis=1)
            & (middle <= crop[2:]).all(axis=1)
        )
        found = np.flatnonzero(inside)
        order = np.argsort(-self.scores[found], kind='stable')
        return [int(i) for i in found[order][:MAX_DETECTIONS]]


class Examples:
    """Drawer of the objects on which two runs differ most.

    Args:
        gt: Ground truth.
        runs: Detections by name of the run: one, or the run and its control.
        files: Finds the image files.
        has_masks: Whether to outline masks rather than boxes.
    """

    def __init__(
        self,
        gt: GroundTruth,
        runs: dict[str, DetectionArrays],
        *,
        files: ImageFiles,
        has_masks: bool,
    ) -> None:
        self.gt = gt
        self.runs = runs
        self.files = files
        self.has_masks = has_masks

    def draw(self, category_id: int, sign: int) -> Example | None:
        """Draw an example of a class.

        Args:
            category_id: Category id of the class.
            sign: 1 for the object on which the first run is most ahead, -1
                for that on which it is most behind.

        Returns:
            None if no readable image file was found.
        """
        category = int(np.searchsorted(self.gt.category_ids, category_id))
        counted = ~self.gt.is_crowd & ~self.gt.is_ignored
        (objects,) = np.nonzero(counted & (self.gt.categories == category))
        found = [
            _ClassDetections.select(run, category_id, self.has_masks)
            for run in self.runs.values()
        ]
        quality = [self._quality(objects, dets) for dets in found]
        ahead = quality[0] - (quality[1] if len(quality) > 1 else 0)
        size = self.gt.boxes[objects, 2:].prod(axis=1)
        # among equal objects, prefer the larger
        for index in np.lexsort((-size, -sign * ahead))[:MAX_OBJECTS]:
            target = int(objects[index])
            image_id = int(self.gt.image_ids[self.gt.images[target]])
            image = self._open(image_id)
            if image is not None:
                return Example(image_id, self._compose(image, target, found))
        return None

    def _quality(
        self, objects: NDArray[np.int64], dets: _ClassDetections
    ) -> NDArray[np.float64]:
        """Return the best score x IoU of each object; 0 for IoU below 0.5."""
        best = np.zeros(len(objects))
        order = np.argsort(dets.image_ids, kind='stable')
        ids = dets.image_ids[order]
        for index, target in enumerate(objects):
            image_id = self.gt.image_ids[self.gt.images[target]]
            inside = order[
                slice(*np.searchsorted(ids, (image_id, image_id + 1)))
            ]
            if len(inside):
                iou = mask_utils.iou(
                    dets.boxes[inside], self.gt.boxes[target][None], [0]
                )[:, 0]
                scores = dets.scores[inside] * iou * (iou >= 0.5)
                best[index] = scores.max()
        return best

    def _open(self, image_id: int) -> Image.Image | None:
        path = self.files.find(image_id)
        if path is None:
            return None
        height, width = self.gt.sizes[
            np.searchsorted(self.gt.image_ids, image_id)
        ]
        try:
            image: Image.Image = Image.open(path)
            if image.size != (width, height):  # rotated by EXIF
                image = ImageOps.exif_transpose(image)
            return image.convert('RGB')
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ):
            return None

    def _compose(
        self, image: Image.Image, target: int, found: list[_ClassDetections]
    ) -> bytes:
        """Draw an object with one panel per run; return the JPEG."""
        crop = crop_around(self.gt.boxes[target], image.size)
        image_id = int(self.gt.image_ids[self.gt.images[target]])
        panels = []
        for dets, colour in zip(found, RUN_COLOURS, strict=False):
            panel = Panel(image, crop)
            self._draw_truth(panel, target)
            _draw_found(panel, dets, (image_id, crop), colour)
            panels.append(panel)
        return join_panels(panels, list(self.runs), RUN_COLOURS[: len(panels)])

    def _draw_truth(self, panel: Panel, target: int) -> None:
        """Outline the annotated objects of the target's class and image."""
        gt = self.gt
        same = (gt.images == gt.images[target]) & (
            gt.categories == gt.categories[target]
        )
        for index in np.flatnonzero(same & ~gt.is_crowd).tolist():
            rle = gt.masks.take([index])[0] if self.has_masks else None
            for colour, width in (('black', 4), ('white', 2)):
                panel.outline(outlines(gt.boxes[index], rle), colour, width)


def _draw_found(
    panel: Panel, dets: _ClassDetections, place: tuple[int, Crop], colour: str
) -> None:
    """Outline and label the best detections of a class in a crop."""
    shown = dets.highest(*place)
    for index in shown:
        box = dets.boxes[index]
        panel.outline(outlines(box, dets.rle(index)), colour, 2)
    for index in shown:
        text = f'{dets.scores[index]:.2f}'
        panel.tag(dets.boxes[index][:2], text, colour)
    if not shown:
        panel.note('no detection here', colour)
