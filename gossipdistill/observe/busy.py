"""What a command does before it has anything to show: one line on a terminal, which goes when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

_CLEAR_LINE = "\r\x1b[K"


@contextmanager
def busy(console: Console, first: str) -> Iterator[Callable[[str], None]]:
    """Shows `first`, then what the function is called with. Nothing where there is no terminal.

    The line is no live display, so that a bar of a download, or what a user's task prints, just takes its place.
    """
    shown = console.is_terminal and not console.is_dumb_terminal

    def say(text: str) -> None:
        if shown:
            console.file.write(f"{_CLEAR_LINE}{text[: max(console.width - 5, 1)]} ...")
            console.file.flush()

    say(first)
    try:
        yield say
    finally:
        if shown:
            console.file.write(_CLEAR_LINE)
            console.file.flush()
