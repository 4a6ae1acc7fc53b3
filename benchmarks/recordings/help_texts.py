"""`--help` of every command: as it is read, and with all sentences left out.

Without sentences there remain, in the order in which they are shown: commands, options, what an option takes, and the
facts in brackets (a default, a range, choices, a variable of the environment).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import typer.main

from gossipdistill.cli.entry import app

READ, BARE = "help.txt", "help_without_sentences.txt"
PROGRAM = "gossipdistill"
_COLUMNS = 80
_FACTS = re.compile(r"\[[^\[\]]*\]$")


def read() -> str:
    """Every help text as a terminal of 80 columns shows it."""
    return "\n".join(f"$ {ctx.command_path} --help\n{_text(ctx)}\n" for ctx in _contexts())


def bare() -> str:
    """The same without sentences: one line for each command, argument and option."""
    return "".join(_bare(ctx) for ctx in _contexts())


def without_sentence(text: str) -> str:
    """The facts in brackets at the end of a help text."""
    found = _FACTS.search(" ".join(text.split()))
    return found[0] if found else ""


def _contexts() -> Iterator[Any]:
    """One of each command, outermost first, in the order of the list of commands."""
    root: Any = typer.main.get_command(app)
    waiting = [root.make_context(PROGRAM, [], resilient_parsing=True)]
    while waiting:
        ctx = waiting.pop(0)
        yield ctx
        inner = getattr(ctx.command, "commands", {})
        made = [command.make_context(name, [], parent=ctx, resilient_parsing=True) for name, command in inner.items()]
        waiting = made + waiting


def _text(ctx: Any) -> str:
    with mock.patch.dict(os.environ, {"COLUMNS": str(_COLUMNS)}):
        return str(ctx.command.get_help(ctx))


def _bare(ctx: Any) -> str:
    usage, _, text = _text(ctx).partition("\n")
    rows = [(text.find(f"\n  {shown}"), f"  {shown}  {facts}".rstrip()) for shown, facts in _records(ctx)]
    return "\n".join([usage, *(line for _, line in sorted(rows))]) + "\n"


def _records(ctx: Any) -> Iterator[tuple[str, str]]:
    """(what stands at the left of its line, facts) of commands and parameters."""
    for name, command in getattr(ctx.command, "commands", {}).items():
        if not command.hidden:
            yield name, ""
    for parameter in ctx.command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            yield record[0], without_sentence(record[1])
