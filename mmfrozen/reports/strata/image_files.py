"""Find the image files of an annotation file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...annotation_faults import is_outside


class ImageFiles:
    """Finder of the image files of an annotation file.

    Args:
        records: Image entries of the annotation file by id.
        ann: Path of the annotation file.
        root: Folder of the images; None to search the folders near the
            annotations, as COCO and LVIS are laid out.

    Raises:
        FileNotFoundError: If ``root`` contains none of the first ten images.
    """

    def __init__(
        self,
        records: Mapping[int, Mapping[str, Any]],
        ann: Path,
        root: Path | None = None,
    ) -> None:
        self._names = {i: _names(record) for i, record in records.items()}
        self._roots = [Path(root)] if root else _roots(Path(ann))
        first = list(self._names)[:10]
        self.is_found = any(map(self.find, first))
        if root and first and not self.is_found:
            raise FileNotFoundError(
                f'--images must be the folder of the images of {str(ann)!r}, '
                f'got {str(root)!r} without {self._names[first[0]][0]}. '
                'Name the folder that its file names start from.'
            )

    def find(self, image_id: int) -> Path | None:
        """Return the path of an image; None if the file was not found."""
        for root in self._roots:
            for name in self._names[image_id]:
                if (root / name).is_file():
                    return root / name
        return None


def _names(record: Mapping[str, Any]) -> list[str]:
    """Return possible relative paths of an image, the most specific first."""
    parts = str(record.get('coco_url') or '').split('/')
    names = [record.get('file_name'), '/'.join(parts[-2:]), parts[-1]]
    if names[0]:
        names.append(Path(names[0]).name)
    # skip absolute names: these names are joined to several folders
    kept = [x for x in names if x and x[0] != '/' and not is_outside(x, '/')]
    return list(dict.fromkeys(kept)) or [str(record['id'])]


def _roots(ann: Path) -> list[Path]:
    base = ann.resolve().parent.parent
    folders = sorted(path for path in base.iterdir() if path.is_dir())[:50]
    return [base, ann.resolve().parent, *folders]
