"""Print the progress of a command of several parts, with the time left."""

from __future__ import annotations

import sys
import time


class Progress:
    """Progress of a command of several parts.

    The estimate assumes that each part takes as long as the longest so far.

    Args:
        num_parts: Number of parts of the command.
    """

    def __init__(self, num_parts: int) -> None:
        self.num_parts, self.done = num_parts, 0
        self.start = self.began = time.monotonic()
        self.longest, self.counts = 0.0, False

    def begin(self, what: object, *, is_done: bool = False) -> None:
        """Print a line about the next part on standard error.

        Args:
            what: Description of the part.
            is_done: Whether it was done before, and takes no time now.
        """
        now = time.monotonic()
        if self.counts:
            self.longest = max(self.longest, now - self.began)
        left = ''
        if self.longest:
            minutes = self.longest * (self.num_parts - self.done) / 60
            left = (
                f'; {(now - self.start) / 60:.1f} min so far, '
                f'about {minutes:.1f} left'
            )
        self.began, self.counts = now, not is_done
        self.done += 1
        place = f'{self.done} of {self.num_parts}'
        print(f'{place}: {what}{left}', file=sys.stderr, flush=True)
