"""Where the value of a key comes from: what is decided on, and the text that people read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Source(Enum):
    """The kinds of places for values; an origin's text begins with these words."""

    FIRST_LIGHT = "first-light"
    RUN_FILE = "run file"
    ROSTER_ENTRY = "roster entry of"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"
    CHOSEN = ""
    """The program itself has chosen the value: the text is the reason."""


TYPED = (Source.COMMAND_LINE, Source.ENVIRONMENT)
"""The user gave it with the command."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A place for values: its kind, and which one of that kind it is, such as the path of a run file."""

    source: Source
    which: str = ""

    def __str__(self) -> str:
        """For `config.json` and for error messages."""
        return f"{self.source.value} {self.which}".strip()

    @classmethod
    def read(cls, text: str) -> Origin:
        """The inverse of `str`."""
        for source in Source:
            which = text.removeprefix(source.value)
            if source is Source.CHOSEN or (which != text and which[:1] in ("", " ")):
                break
        return cls(source, which.removeprefix(" "))


COMMAND_LINE = Origin(Source.COMMAND_LINE)


def chosen(why: str) -> Origin:
    """A value that the program itself has chosen."""
    return Origin(Source.CHOSEN, why)
