"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType
from rich.table import Table

from gossipdistill.observe.fitting import console
from gossipdistill.observe.record import Record
from gossipdistill.observe.report import as_json

out_console = console()
err_console = console(stderr=True)


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


RunFile = Annotated[Path | None, typer.Argument(metavar="RUNFILE", help="What and how. Default: first-light.")]
Peers = Annotated[
    str | None,
    # The variable is read together with the other layers of keys, so that `config.json` names it as the origin.
    typer.Option(
        metavar="WHERE",
        help="A count (this machine), a roster name or file, or host:port,... [env var: GOSSIPDISTILL_PEERS]",
    ),
]
Topology = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Who talks to whom.")]
TaskName = Annotated[str | None, typer.Option("--task", metavar="NAME|module:function", help="What is learned.")]
StrategyName = Annotated[str | None, typer.Option("--strategy", metavar="NAME", help="What is exchanged.")]
Steps = Annotated[int | None, typer.Option(min=1, metavar="N", help="End after so many own steps.")]
Seconds = Annotated[
    float | None, typer.Option(min=0.001, metavar="S", help="End after so many seconds; the earlier one counts.")
]
Seed = Annotated[int | None, typer.Option(min=0, metavar="N", help="Of initial weights, shards and order.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of a run file. [env var: GOSSIPDISTILL_SET]"),
]
DataDir = Annotated[
    Path | None, typer.Option(envvar="GOSSIPDISTILL_DATA", metavar="FOLDER", help="Where data sets lie.")
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:K", help="auto: local peers share the GPUs.")]
Faults = Annotated[
    str | None, typer.Option(metavar="PLAN", help="What goes wrong, and what must hold: a plan's name or file.")
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        envvar="GOSSIPDISTILL_KEY_FILE",
        metavar="FILE",
        help="This peer's secret. Default: keys/NAME.secret or NAME.secret, beside the roster.",
    ),
]
Secure = Annotated[
    bool, typer.Option("--secure", help="Encrypt and authenticate also between peers of this machine (needs keys).")
]
Out = Annotated[Path, typer.Option(envvar="GOSSIPDISTILL_OUT", metavar="FOLDER", help="Parent of run folders.")]
FormatOption = Annotated[
    Format, typer.Option("--format", metavar="table|json", help="json: one object on standard output, nothing else.")
]
RUNS = Path("runs")
Shown = TypeVar("Shown", bound=Record)


def print_result(summary: Shown, output: Format, render: Callable[[Shown], RenderableType], *lines: str) -> None:
    """Print one JSON object and nothing else; or a table, with `lines` below it."""
    for problem in summary.plain().get("unwritten", ()):
        err_console.print(f"not written: {problem}", style="red", markup=False, soft_wrap=True)
    if output is Format.JSON:
        print(as_json(summary), flush=True)
        return
    out_console.print(render(summary))
    for line in lines:
        if line:
            out_console.print(line, soft_wrap=True, markup=False)
    sys.stdout.flush()


def written_to(file: Path, unwritten: Sequence[str], then: str = "") -> str:
    """`Written to FILE`, followed by `then`; empty for a file that could not be written."""
    missing = any(f"{os.sep}{file.name}: " in problem for problem in unwritten)
    return "" if missing else f"Written to {file}{then}"


def print_notices(notices: Iterable[str]) -> None:
    """Print notices before a run begins, each once, on standard error."""
    for notice in dict.fromkeys(notices):
        err_console.print(f"gossipdistill: {notice}", style="yellow", markup=False, soft_wrap=True)


def print_names(names: list[tuple[str, str]]) -> None:
    """Print names with their descriptions."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, line in names:
        table.add_row(name, line)
    out_console.print(table)
