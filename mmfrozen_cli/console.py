"""A console that prints text literally, without markup."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from . import plain, print_error

WIDTH = 140  # columns of tables that do not go to a terminal


class PlainConsole(Console):
    """Console that ignores markup, emoji codes and control characters.

    Names of classes, files and runs are untrusted: rich would interpret
    ``[bold]`` in them, and a terminal would interpret control characters.
    """

    def __init__(self, **options: Any) -> None:
        options = dict(highlight=False) | options
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string; rich calls this for all text, also in tables."""
        return super().render_str(plain(text, keep='\n'), **options)

    def status(self, status: Any, **options: Any) -> Status:
        """Return a status line for the step in progress."""
        return _PlainStatus(Text(plain(status)), console=self, **options)


class _PlainStatus(Status):
    def update(self, status: Any = None, **options: Any) -> None:
        if isinstance(status, str):
            status = Text(plain(status))
        super().update(status, **options)


def show_result(
    compute: Callable[[PlainConsole], Callable[[PlainConsole], int]],
) -> int:
    """Compute a result without MMDetection's messages, and print it.

    Args:
        compute: Function that takes the console of standard error, for
            progress, and returns the function that prints the result and
            returns the exit status.

    Returns:
        The exit status; 2 for invalid input.
    """
    errors = PlainConsole(stderr=True)
    try:
        # MMDetection prints while it builds; keep that out of the result
        with contextlib.redirect_stdout(sys.stderr):
            with errors.status('loading MMDetection'):
                import mmfrozen  # noqa: F401

            logging.disable(logging.WARNING)
            show = compute(errors)
    except (ValueError, OSError) as error:
        print_error(error)
        return 2
    console = PlainConsole()
    if not console.is_terminal:
        console.width = WIDTH
    return show(console)
