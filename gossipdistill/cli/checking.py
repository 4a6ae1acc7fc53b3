"""The command doctor, which checks machines and the network between them before training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gossipdistill.cli.options import Format, FormatOption, KeyFile, Secure, err_console, print_result

if TYPE_CHECKING:
    from gossipdistill.doctor.talk import Progress


def doctor(
    peers: Annotated[
        str, typer.Option(metavar="WHERE", envvar="GOSSIPDISTILL_PEERS", help="A roster: its name or file.")
    ],
    name: Annotated[
        str | None,
        typer.Option(envvar="GOSSIPDISTILL_NAME", help="Which peer this machine is. Default: by its addresses."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(envvar="GOSSIPDISTILL_LISTEN", metavar="HOST:PORT", help="As for `worker`."),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(envvar="GOSSIPDISTILL_ADVERTISE", metavar="HOST:PORT", help="As for `worker`."),
    ] = None,
    key: KeyFile = None,
    secure: Secure = False,
    seconds: Annotated[
        float,
        typer.Option(min=0, metavar="S", help="Wait for the others at most so long; 0: look at this machine only."),
    ] = 60.0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Can these machines work together? Start it on each, in any order; it says what to do where something is wrong."""
    from gossipdistill.doctor.examine import Asked, examine
    from gossipdistill.observe.examination import render

    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it is ignored
    with _waiting() as progress:
        summary = examine(Asked(peers, name, listen, advertise, seconds, key, secure), progress)
    print_result(summary, output, render)
    raise typer.Exit(summary.exit_code)


@contextmanager
def _waiting() -> Iterator[Progress]:
    """Shows the peers that the doctor waits for: in place on a terminal, else as one line after each change."""
    said: list[list[str]] = [[]]
    with err_console.status("looking") if err_console.is_terminal else nullcontext() as status:  # a status has a thread

        def progress(missing: list[str], left_s: float) -> None:
            shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
            if status is not None:
                # As Text: a status reads a plain string as markup, regardless of its console.
                status.update(Text(f"meeting or awaiting {shown}; {left_s:.0f} s left, Ctrl-C ends"))
            elif missing != said[0]:
                said[0] = missing
                text = f"meeting or awaiting {shown}, at most {left_s:.0f} s: start the doctor there too"
                err_console.print(text, markup=False, soft_wrap=True)

        yield progress
