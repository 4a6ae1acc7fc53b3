"""The application: its commands, and what becomes of errors."""

from __future__ import annotations

import sys
import tempfile
import traceback
from typing import Annotated

import typer

from gossipdistill.cli import checking, keeping, looking, running, simulating
from gossipdistill.cli.options import err_console
from gossipdistill.errors import EXIT_INTERRUPTED, GossipdistillError
from gossipdistill.launch.stopping import pass_over_early_wishes
from gossipdistill.printable import printable_lines

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
app.add_typer(keeping.keys_app, name="keys")


def _version(wanted: bool) -> None:
    if wanted:
        import gossipdistill

        print(f"gossipdistill {gossipdistill.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line; errors are one line, exit codes are documented in README.md."""
    pass_over_early_wishes()
    try:
        app()
    except GossipdistillError as error:
        err_console.print(f"gossipdistill: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)
    except Exception:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="gossipdistill-", suffix=".txt", delete=False
        ) as report:
            report.write(printable_lines(traceback.format_exc()))
        text = f"gossipdistill: a fault of ours; please send us the report in {report.name}"
        err_console.print(text, style="red", markup=False, soft_wrap=True)
        sys.exit(1)
