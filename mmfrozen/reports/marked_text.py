"""The part of a Markdown page that a command writes, between two lines."""

from __future__ import annotations

from pathlib import Path


def replace_between(
    page: Path, text: str, begin: str, end: str, content: str
) -> str:
    """Return the text of a page with another content between its marks.

    Args:
        page: Path of the page, for the error message.
        text: Text of the page.
        begin: Line before the content.
        end: Line after the content.
        content: The new content, without the marks.

    Raises:
        ValueError: If the text lacks one of the marks.
    """
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last):
        raise ValueError(
            f'{page} must have the lines {begin!r} and {end!r}, got neither '
            'or one. Put them where the content belongs.'
        )
    return f'{before}{first}{content}{last}{after}'
