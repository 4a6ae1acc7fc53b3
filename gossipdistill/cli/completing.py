"""Completion on the command line: shows or installs the script for a shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from typer import completion

from gossipdistill.errors import ConfigError, UsageError

PROGRAM = "gossipdistill"
VARIABLE = "_GOSSIPDISTILL_COMPLETE"
"""The script for a shell sets this variable to ask for completions."""
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
DETECT = "detect"
"""It stands for the shell from which the program was started."""
OPTIONS = ("--install-completion", "--show-completion")


def prepare() -> None:
    """Enable answers to the shells' scripts; call it before the application."""
    if VARIABLE in os.environ:
        completion.completion_init()  # type: ignore[attr-defined]


def with_shells(args: list[str]) -> list[str]:
    """The arguments, with `DETECT` inserted if an option for completion names no shell."""
    found: list[str] = []
    for place, word in enumerate(args):
        found.append(word)
        follows = args[place + 1] if place + 1 < len(args) else "-"
        if word in OPTIONS and follows.startswith("-"):
            found.append(DETECT)
    return found


def _show(shell: str | None) -> None:
    if shell is not None:
        name = _shell(shell, OPTIONS[1])
        print(completion.get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=name))  # type: ignore[attr-defined]
        raise typer.Exit


def _install(shell: str | None) -> None:
    if shell is not None:
        name = _shell(shell, OPTIONS[0])
        try:
            _, path = completion.install(name, PROGRAM, VARIABLE)  # type: ignore[attr-defined]
        except OSError as error:
            raise ConfigError(
                f"cannot be written: {error.strerror or error}", file=error.filename or Path.home()
            ) from None
        print(f"Completion of {PROGRAM} for {name} is installed in {path}; start a new terminal to have it.")
        raise typer.Exit


def _shell(asked: str, option: str) -> str:
    name = asked
    if asked == DETECT:
        name = _detected()
        if not name:
            raise UsageError(f"{option}: which shell? Give one of {', '.join(SHELLS)}, for example {option} bash")
    if name not in SHELLS:
        raise UsageError(f"{option}: {name} is not supported; give one of {', '.join(SHELLS)}")
    return name


def _detected() -> str:
    """The shell among the parents of this process; else the user's login shell; "" if neither is known."""
    import shellingham  # type: ignore[import-untyped]

    try:
        return str(shellingham.detect_shell()[0])
    except (shellingham.ShellDetectionFailure, OSError):
        return Path(os.environ.get("SHELL", "")).name


_METAVAR = "[SHELL]"
InstallCompletion = Annotated[
    str | None,
    typer.Option(
        OPTIONS[0],
        metavar=_METAVAR,
        callback=_install,
        is_eager=True,
        help="Have the Tab key complete commands and options: bash, zsh, fish or powershell; by default this shell.",
    ),
]
ShowCompletion = Annotated[
    str | None,
    typer.Option(
        OPTIONS[1],
        metavar=_METAVAR,
        callback=_show,
        is_eager=True,
        help="Print what --install-completion would install.",
    ),
]
