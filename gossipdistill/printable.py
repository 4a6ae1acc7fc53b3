"""Text that came from elsewhere (a file, a peer, a user's exception), made fit for a terminal and for a log.

Escape sequences, line breaks, characters that change the direction of writing, and halves of a surrogate pair become
visible: `\\x1b`, `\\u202e`, `\\ud800`. Nothing else changes, so that a printable text stays as it is.
"""

from __future__ import annotations

import unicodedata
from typing import Any

VALUE_CHARACTERS_MAX = 200
"""A message shows at most this many characters of a refused value."""


def printable(text: str) -> str:
    """`text` in one line, in which every character is printable."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _visible(character) for character in text)


def printable_lines(text: str) -> str:
    """The same, with its line breaks kept: for text of several lines, such as a traceback."""
    return "\n".join(printable(line.rstrip("\r")) for line in text.split("\n"))


def printable_all(value: Any) -> Any:
    """A value as JSON has them, in which every text and every key is printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable_all(key): printable_all(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [printable_all(entry) for entry in value]
    return value


def shown(value: object) -> str:
    """A refused value as Python would write it, in one printable line that is not too long."""
    try:
        text = printable(repr(value))
    except Exception as error:  # a number with too many digits, lists nested too deeply, a class of a user's
        return f"<{type(value).__name__}: {type(error).__name__} when it is written out>"
    if len(text) <= VALUE_CHARACTERS_MAX:
        return text
    return f"{text[:VALUE_CHARACTERS_MAX]}... ({len(text)} characters)"


def _visible(character: str) -> str:
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "  # spaces of other widths
    return character.encode("unicode_escape").decode("ascii")
