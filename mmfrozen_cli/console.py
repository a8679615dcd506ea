"""A console that prints names as they are, whatever is in them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from . import plain


class PlainConsole(Console):
    """Prints text without markup, emoji codes and control characters.

    Names of classes, files and runs come from others: rich would read
    ``[bold]`` in them, and a terminal the rest.
    """

    def __init__(self, **options: Any) -> None:
        options = dict(highlight=False) | options
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text passes here, cells and titles too."""
        return super().render_str(plain(text, keep='\n'), **options)

    def status(self, status: Any, **options: Any) -> Status:
        """A line that says what is done now."""
        return _PlainStatus(Text(plain(status)), console=self, **options)


class _PlainStatus(Status):
    def update(self, status: Any = None, **options: Any) -> None:
        if isinstance(status, str):
            status = Text(plain(status))
        super().update(status, **options)
