"""The application: its commands, and the handling of errors."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gossipdistill.cli import checking, completing, keeping, looking, running, simulating
from gossipdistill.cli.completing import InstallCompletion, ShowCompletion
from gossipdistill.cli.help import dress
from gossipdistill.cli.options import err_console
from gossipdistill.durable import OF_STORAGE
from gossipdistill.errors import EXIT_INTERRUPTED, EXIT_LOST, ConfigError, GossipdistillError, UserCodeError
from gossipdistill.printable import printable_lines
from gossipdistill.runtime.log import keep_going
from gossipdistill.runtime.stopping import pass_over_early_signals
from gossipdistill.user_code import TorchSettings, came_from, told

app = typer.Typer(
    name="gossipdistill",
    help="Peers that train their own models and teach one another. Nobody waits for a straggler.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    running.run,
    running.worker,
    running.compare,
    simulating.simulate,
    looking.show,
    looking.story,
    looking.new,
    checking.doctor,
):
    app.command()(command)
app.add_typer(looking.topology_app, name="topology")
app.add_typer(looking.faults_app, name="faults")
app.add_typer(looking.strategy_app, name="strategy")
app.add_typer(looking.task_app, name="task")
app.add_typer(looking.config_app, name="config")
app.add_typer(keeping.keys_app, name="keys")


def _version(wanted: bool) -> None:
    if wanted:
        import gossipdistill

        print(f"gossipdistill {gossipdistill.__version__}")
        raise typer.Exit


@app.command("help")
def help_(
    ctx: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Default: all commands.")] = None,
) -> None:
    """The same as --help after a command."""
    root = ctx.find_root()
    root.command.main([*(command or ()), "--help"], prog_name=root.info_name)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
    install_completion: InstallCompletion = None,
    show_completion: ShowCompletion = None,
) -> None:
    """Options before the command."""


dress(app)


def main() -> None:
    """Run the command line; errors are one line, exit codes are documented in docs/reference.md."""
    pass_over_early_signals()
    completing.prepare()
    keep_going()
    TorchSettings.forget()
    here = Path.cwd()
    try:
        app(completing.with_shells(sys.argv[1:]), prog_name=completing.PROGRAM)
    except GossipdistillError as error:
        notes = getattr(error, "__notes__", [])
        if (
            isinstance(error, UserCodeError)
            and error.__cause__ is not None
            and not notes
            and "full report" not in str(error)
        ):
            notes = [f"the full report is in {_reported()}"]
        _say("; ".join([str(error), *notes]))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if came_from(error, here):
            _say(f"{told(error)}; the full report is in {_reported()}")
            sys.exit(ConfigError.exit_code)
        if isinstance(error, OSError) and error.errno in OF_STORAGE:
            _leave_for_storage(error)
        _say(f"a fault of ours; please send us the report in {_reported()}")
        sys.exit(1)


def _say(text: str) -> None:
    err_console.print(f"gossipdistill: {text}", style="red", markup=False, soft_wrap=True)


def _reported() -> str:
    """Write the report of the current exception into a file. Returns the file's name, or a text that it could not be
    written."""
    report = printable_lines(traceback.format_exc())
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="gossipdistill-", suffix=".txt", delete=False
        ) as file:
            file.write(report)
        return file.name
    except OSError as error:
        print(report, file=sys.stderr)
        return f"the lines above (no file could be written: {error.strerror})"


def _leave_for_storage(error: OSError) -> NoReturn:
    """Report an error of storage to the user: a disk, or a standard output on a disk, that is full or not writable."""
    place, code = error.filename or "standard output", ConfigError.exit_code if error.filename else EXIT_LOST
    _say(f"{place}: cannot be written or read: {error.strerror}")
    with contextlib.suppress(OSError):
        sys.stdout.close()  # the rest cannot be written; otherwise the interpreter would try again at its end
    sys.exit(code)
