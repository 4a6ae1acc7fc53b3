"""The text of an exception of foreign code, bounded and printable, even if its own `__str__` fails."""

from __future__ import annotations

from gossipdistill.printable import printable

TEXT_CHARACTERS_MAX = 400
"""The text of an exception in a message has at most this length; the whole text is in the report."""
_READ_CHARACTERS_MAX = 10_000
"""At most this number of characters of a text is read: one may have megabytes."""


def in_one_line(text: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """`text` in one line, printable, and at most `characters_max` + 3 characters long."""
    line = printable(" ".join(text[:_READ_CHARACTERS_MAX].split()))
    return line if len(line) <= characters_max else line[:characters_max] + "..."


def text_of(error: BaseException) -> str:
    """`TYPE: TEXT` of an exception, in one line; its own `__str__` may fail."""
    kind = in_one_line(type(error).__name__)
    try:
        text = in_one_line(error.msg if isinstance(error, SyntaxError) else str(error))
    except Exception as second:
        text = f"its text cannot be had ({in_one_line(type(second).__name__)})"
    return f"{kind}: {text}" if text else kind
