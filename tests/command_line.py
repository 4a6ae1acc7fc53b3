"""The command line, called or only parsed in this process."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import pytest
import typer.main

from gossipdistill.cli import main
from gossipdistill.cli.entry import app

Outcome = tuple[int, str, str]
"""Exit code, standard output, standard error."""
ROOT: Any = typer.main.get_command(app)
"""The command `gossipdistill` with all below it."""


def called(monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], *args: str) -> Outcome:
    """`gossipdistill ARGS...`."""
    monkeypatch.setattr(sys, "argv", ["gossipdistill", *args])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capture.readouterr()
    return code, captured.out, captured.err


def parse(line: str) -> None:
    """As if the line was typed, up to where a command would begin to work.

    Raises:
        click.UsageError: when it cannot be typed.
    """
    program, *words = shlex.split(line)
    assert program == "gossipdistill"
    command, ctx = ROOT, ROOT.make_context(program, list(words), resilient_parsing=True)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
        rest = list(words)
        ctx = command.make_context(name, rest, parent=ctx, resilient_parsing=hasattr(command, "commands"))
