"""Which part of a long command begins, and how long it will take."""

from __future__ import annotations

import sys
import time


class Progress:
    """Says which part begins, and bounds the others by the longest so far.

    Args:
        num_parts: Of the command.
    """

    def __init__(self, num_parts: int) -> None:
        self.num_parts, self.done = num_parts, 0
        self.start = self.began = time.monotonic()
        self.longest = 0.0

    def begin(self, what: object) -> None:
        """Print a line about the next part on standard error."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self.began)
        self.began = now
        left = ''
        if self.done:
            minutes = self.longest * (self.num_parts - self.done) / 60
            left = (
                f'; {(now - self.start) / 60:.1f} min so far, '
                f'at most {minutes:.1f} left'
            )
        self.done += 1
        print(
            f'{self.done} of {self.num_parts}: {what}{left}', file=sys.stderr
        )
