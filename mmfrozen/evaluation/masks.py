"""Store the run-length encodings (RLE) of many masks in one array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Masks:
    """N compressed RLE masks, which take a fifth of the memory of dicts.

    Attributes:
        sizes: (N, 2) int32, height and width in pixels.
        ends: (N,) int64, position in ``counts`` where a mask's counts end.
        counts: (total,) uint8, the concatenated counts; a mask that was left
            out has none.
    """

    sizes: NDArray[np.int32]
    ends: NDArray[np.int64]
    counts: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def from_rles(
        cls,
        rles: Sequence[Mapping[str, Any]],
        wanted: NDArray[np.bool_] | None = None,
    ) -> Masks:
        """Pack RLE dicts in COCO's compressed form.

        Args:
            rles: RLE dicts of the wanted masks.
            wanted: (N,) bool, whether a mask is among them; None for all.

        Raises:
            TypeError: If the counts of a mask are not str or bytes.
        """
        texts = [x['counts'] for x in rles]
        sizes = np.array([x['size'] for x in rles], np.int32).reshape(-1, 2)
        lengths = np.array(list(map(len, texts)), np.int64)
        if wanted is not None:
            whole = np.zeros((len(wanted), 3), np.int64)
            whole[wanted] = np.column_stack([sizes, lengths])
            sizes, lengths = whole[:, :2].astype(np.int32), whole[:, 2]
        return cls(
            sizes,
            np.cumsum(lengths),
            np.frombuffer(_bytes(texts), np.uint8),
        )

    @classmethod
    def join(cls, parts: Sequence[Masks]) -> Masks:
        """Concatenate masks."""
        lengths = [np.diff(x.ends, prepend=0) for x in parts]
        return cls(
            np.concatenate(
                [np.empty((0, 2), np.int32)] + [x.sizes for x in parts]
            ),
            np.cumsum(np.concatenate([np.empty(0, np.int64), *lengths])),
            np.concatenate(
                [np.empty(0, np.uint8)] + [x.counts for x in parts]
            ),
        )

    def rles(self, positions: NDArray[np.integer]) -> list[dict[str, Any]]:
        """Return some masks as RLE dicts, with counts as bytes."""
        positions = np.asarray(positions, np.int64)
        begins = np.where(positions > 0, self.ends[positions - 1], 0)
        first = begins.min(initial=len(self.counts))
        last = self.ends[positions].max(initial=0)
        text = self.counts[first:last].tobytes()
        return [
            {'size': size, 'counts': text[begin:end]}
            for size, begin, end in zip(
                self.sizes[positions].tolist(),
                (begins - first).tolist(),
                (self.ends[positions] - first).tolist(),
                strict=True,
            )
        ]


def _bytes(texts: Sequence[Any]) -> bytes:
    """Join counts that are all str (from JSON) or bytes (pycocotools)."""
    try:
        return ''.join(texts).encode('ascii')
    except TypeError:
        return b''.join(texts)
