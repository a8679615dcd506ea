"""A console that prints text literally, without markup."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from . import plain


class PlainConsole(Console):
    """Console that ignores markup, emoji codes and control characters.

    Names of classes, files and runs are untrusted: rich would interpret
    ``[bold]`` in them, and a terminal would interpret control characters.
    """

    def __init__(self, **options: Any) -> None:
        options = dict(highlight=False) | options
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string; all text passes here, also cells and titles."""
        return super().render_str(plain(text, keep='\n'), **options)

    def status(self, status: Any, **options: Any) -> Status:
        """Return a status line for the step in progress."""
        return _PlainStatus(Text(plain(status)), console=self, **options)


class _PlainStatus(Status):
    def update(self, status: Any = None, **options: Any) -> None:
        if isinstance(status, str):
            status = Text(plain(status))
        super().update(status, **options)
