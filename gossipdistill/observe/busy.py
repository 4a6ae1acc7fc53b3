"""One line on a terminal that says what a command does before it has output; the line is removed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

_CLEAR_LINE = "\r\x1b[K"


@contextmanager
def busy(console: Console, first: str) -> Iterator[Callable[[str], None]]:
    """Shows `first`, then each text that the returned function is called with. Shows nothing without a terminal.

    The line is not a live display, so that a download's progress bar or a task's output simply replaces it.
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
