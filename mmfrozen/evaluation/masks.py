"""Many masks in one piece of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Masks:
    """N compressed RLE masks; a dict for each would take 5 x the memory.

    Attributes:
        sizes: (N, 2) int32, height and width in pixels.
        ends: (N,) where the counts of a mask end in ``counts``.
        counts: uint8, all counts one after another; a mask that was left
            out has none.
    """

    sizes: NDArray[np.int32]
    ends: NDArray[np.int64]
    counts: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def from_rles(cls, rles: Sequence[Mapping[str, Any] | None]) -> Masks:
        """Pack RLE dicts, in COCO's compressed form; None leaves one out.

        Raises:
            TypeError: If one is something else.
        """
        texts = [b'' if x is None else _bytes(x['counts']) for x in rles]
        sizes = [(0, 0) if x is None else x['size'] for x in rles]
        return cls(
            np.array(sizes, np.int32).reshape(-1, 2),
            np.cumsum([len(x) for x in texts], dtype=np.int64),
            np.frombuffer(b''.join(texts), np.uint8),
        )

    @classmethod
    def join(cls, parts: Sequence[Masks]) -> Masks:
        """Append parts to one another."""
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

    def only(self, wanted: NDArray[np.bool_]) -> Masks:
        """Leave the masks out that are not wanted."""
        lengths = np.diff(self.ends, prepend=0)
        return Masks(
            np.where(wanted[:, None], self.sizes, 0),
            np.cumsum(np.where(wanted, lengths, 0)),
            self.counts[np.repeat(wanted, lengths)],
        )

    def rles(self, positions: NDArray[np.integer]) -> list[dict[str, Any]]:
        """Unpack some masks: RLE dicts with counts as bytes."""
        positions = np.asarray(positions, np.int64)
        begins = np.where(positions > 0, self.ends[positions - 1], 0)
        text = memoryview(self.counts)
        return [
            {'size': size, 'counts': bytes(text[begin:end])}
            for size, begin, end in zip(
                self.sizes[positions].tolist(),
                begins.tolist(),
                self.ends[positions].tolist(),
                strict=True,
            )
        ]


def _bytes(counts: str | bytes) -> bytes:
    if isinstance(counts, str):
        return counts.encode('ascii')
    if isinstance(counts, bytes):
        return counts
    raise TypeError(f'counts of {type(counts).__name__}')
