"""Tables that fit the terminal: if it is narrow, the least important columns are left out first. No figure is ever
truncated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from gossipdistill.printable import printable_lines

PLAIN_WIDTH = 120
"""The width in characters of output that is not a terminal (a file, a pipe, a log)."""


@dataclass(frozen=True)
class Column:
    """One column. `dispensable` columns are left out if the terminal is too narrow, the highest number first; 0 always
    stays. Only a `folding` column may be broken into lines."""

    title: str
    right: bool = False
    dispensable: int = 0
    folding: bool = False


@dataclass(frozen=True)
class Fitting:
    """A table of these columns and rows."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        levels = sorted({column.dispensable for column in self.columns}, reverse=True)
        table = self._table(levels[0])
        for level in levels:
            table = self._table(level)
            if Measurement.get(console, options.update(max_width=10_000), table).maximum <= options.max_width:
                break
        yield table

    def _table(self, level: int) -> Table:
        kept = [place for place, column in enumerate(self.columns) if column.dispensable <= level]
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for place in kept:
            column = self.columns[place]
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.folding,
                overflow="fold",
                vertical="bottom" if not column.folding else "top",
            )
        for row in self.rows:
            table.add_row(*(row[place] for place in kept))
        return table


class PlainConsole(Console):
    """A console that prints texts literally: no text is read as markup, and no control character reaches the terminal,
    whatever the origin of the text. Only styles give colours."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as usual, with every character but line ends made printable."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control is None and not text.isprintable():
                segment = Segment(printable_lines(text), segment.style)
            yield segment


def console(stderr: bool = False) -> Console:
    """A console for texts: no markup and no highlighting; wide if it is not a terminal and no width is set."""
    made = PlainConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PLAIN_WIDTH
    return made
