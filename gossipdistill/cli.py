"""Words in, words out: the command line. What is slow to import is imported where it is used."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gossipdistill.errors import ConfigError, GossipdistillError, UsageError

if TYPE_CHECKING:
    from gossipdistill.launch.plan import Asked

app = typer.Typer(
    name="gossipdistill",
    help="Peers that train their own models and teach one another. Nobody waits for a straggler.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topology_app = typer.Typer(help="Who talks to whom.", no_args_is_help=True)
strategy_app = typer.Typer(help="What is exchanged, and what it needs.", no_args_is_help=True)
task_app = typer.Typer(help="What is learned.", no_args_is_help=True)
app.add_typer(topology_app, name="topology")
app.add_typer(strategy_app, name="strategy")
app.add_typer(task_app, name="task")

out_console = Console(highlight=False)
err_console = Console(stderr=True, highlight=False)


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


RunFile = Annotated[Path | None, typer.Argument(metavar="[RUNFILE]", help="What and how. Default: first-light.")]
Peers = Annotated[
    str | None,
    typer.Option(
        envvar="GOSSIPDISTILL_PEERS",
        metavar="WHERE",
        help="A count (this machine), a roster name or file, or host:port,...",
    ),
]
Topology = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Who talks to whom.")]
TaskName = Annotated[str | None, typer.Option("--task", metavar="NAME|module:function", help="What is learned.")]
StrategyName = Annotated[str | None, typer.Option("--strategy", metavar="NAME", help="What is exchanged.")]
Steps = Annotated[int | None, typer.Option(min=1, help="End after so many own steps.")]
Seconds = Annotated[float | None, typer.Option(min=0.001, help="End after so many seconds; the earlier one counts.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of initial weights, shards and order.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of a run file.")]
DataDir = Annotated[Path | None, typer.Option(envvar="GOSSIPDISTILL_DATA", help="Where data sets lie.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:K", help="auto: local peers share the GPUs.")]
Out = Annotated[Path, typer.Option(envvar="GOSSIPDISTILL_OUT", help="Parent of run folders.")]
FormatOption = Annotated[Format, typer.Option("--format", help="json: one object on standard output, nothing else.")]
RUNS = Path("runs")


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


@app.command()
def run(
    run_file: RunFile = None,
    peers: Peers = None,
    topology: Topology = None,
    task: TaskName = None,
    strategy: StrategyName = None,
    steps: Steps = None,
    seconds: Seconds = None,
    seed: Seed = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    out: Out = RUNS,
    max_restarts: Annotated[int, typer.Option(min=0, help="Restart a lost worker up to so many times.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run of this name.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Several peers on this machine, to the end, with a table."""
    from gossipdistill.launch.local import LocalRun
    from gossipdistill.launch.plan import plan_local
    from gossipdistill.observe.display import Display
    from gossipdistill.observe.report import render

    asked = _asked(run_file, peers, topology, task, strategy, steps, seconds, seed, settings, data_dir, device, out)
    specs = plan_local(asked, resume=resume)
    folder = specs[0].folder.parent
    title = f"{folder.name}: {specs[0].config.strategy.name} on {specs[0].config.task.name}, {len(specs)} peers"
    with Display(err_console, title) as display:
        local = LocalRun(specs, folder, display, max_restarts)
        code = local.run()
    _print_result(local.summary, output, render)
    if output is Format.TABLE:
        out_console.print(f"Written to {folder}/summary.json    Again: gossipdistill show {_again(out, folder)}")
    raise typer.Exit(code)


@app.command()
def worker(
    run_file: RunFile = None,
    name: Annotated[str | None, typer.Option(envvar="GOSSIPDISTILL_NAME", help="Which peer this is.")] = None,
    peers: Peers = None,
    listen: Annotated[
        str | None,
        typer.Option(
            envvar="GOSSIPDISTILL_LISTEN", metavar="HOST:PORT", help="Where to listen, if not at the roster's address."
        ),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(envvar="GOSSIPDISTILL_ADVERTISE", metavar="HOST:PORT", help="Where others reach this peer."),
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="K/N", help="This peer's part of the data, from 1.")] = None,
    start_when: Annotated[int, typer.Option(min=1, metavar="N", help="Wait for N peers before the first step.")] = 1,
    start_within: Annotated[float, typer.Option(min=0, metavar="S", help="Wait at most so many seconds.")] = 60.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume from this peer's checkpoint.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow other machines although nothing is encrypted yet.")
    ] = False,
    topology: Topology = None,
    task: TaskName = None,
    strategy: StrategyName = None,
    steps: Steps = None,
    seconds: Seconds = None,
    seed: Seed = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    out: Out = RUNS,
    output: FormatOption = Format.TABLE,
) -> None:
    """One peer of a cluster. Starts at once, in any order; resumes from its checkpoint."""
    from gossipdistill.launch.alone import run_alone
    from gossipdistill.launch.plan import plan_worker
    from gossipdistill.observe.display import Display
    from gossipdistill.observe.report import render

    asked = _asked(
        run_file, peers, topology, task, strategy, steps, seconds, seed, settings, data_dir, device, out, insecure
    )
    spec = plan_worker(asked, name, listen, advertise, shard, start_when, start_within, fresh)
    title = (
        f"{spec.name} of {spec.config.name}: {spec.config.strategy.name} on {spec.config.task.name}, at {spec.listen}"
    )
    with Display(err_console, title) as display:
        code, summary = run_alone(spec, display)
    _print_result(summary, output, render)
    raise typer.Exit(code)


@app.command()
def compare(
    run_file: RunFile = None,
    strategies: Annotated[
        str, typer.Option(metavar="a,b,c", help="Strategies, and `pooled`, the reference row.")
    ] = "isolated,codistill_predictions,gossip_averaging,pooled",
    seeds: Annotated[str, typer.Option(metavar="0,1,2", help="One run of each strategy per seed.")] = "0",
    peers: Peers = None,
    topology: Topology = None,
    task: TaskName = None,
    steps: Steps = None,
    seconds: Seconds = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    out: Out = RUNS,
    output: FormatOption = Format.TABLE,
) -> None:
    """Several strategies on the same data and budget, in one table."""
    from gossipdistill.launch.compare import Comparison
    from gossipdistill.observe.comparison import render
    from gossipdistill.observe.display import Display

    asked = _asked(run_file, peers, topology, task, None, steps, seconds, None, settings, data_dir, device, out)
    displays: list[Display] = []

    def announce(title: str) -> Display:
        for display in displays:
            display.__exit__(None, None, None)
        displays[:] = [Display(err_console, title)]
        return displays[0].__enter__()

    comparison = Comparison(asked, _split(strategies), _numbers(seeds), announce)
    try:
        code = comparison.run()
    finally:
        for display in displays:
            display.__exit__(None, None, None)
    _print_result(comparison.summary, output, render)
    if output is Format.TABLE:
        folder = out / comparison.summary["name"]
        out_console.print(f"\nRuns: {folder}/*/summary.json    Again: gossipdistill show {_again(out, folder)}")
    raise typer.Exit(code)


@app.command()
def show(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Name or folder. Default: the newest.")] = None,
    out: Out = RUNS,
    wait_s: Annotated[float, typer.Option(min=0, help="Wait for all peers' results, at most so many seconds.")] = 0.0,
    output: FormatOption = Format.TABLE,
) -> None:
    """The final table of a run, again."""
    from gossipdistill.observe.show import find_and_wait

    summary, render = find_and_wait(out, run, wait_s, err_console)
    _print_result(summary, output, render)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Made if it is not there; nothing is overwritten.")],
) -> None:
    """The files of a run of your own, ready to edit."""
    from gossipdistill.launch.scaffold import write_examples

    for path in write_examples(folder):
        out_console.print(f"  {path}")
    out_console.print(f"\nTry:  cd {folder}  &&  gossipdistill run first-light.toml")


@topology_app.command("list")
def topology_list() -> None:
    """Ready-made topologies."""
    from gossipdistill.topology import list_topologies

    _print_names(list_topologies())


@topology_app.command("show")
def topology_show(
    where: Annotated[str, typer.Argument(metavar="NAME|FILE")],
    peers: Annotated[str, typer.Option(metavar="WHERE", help="A count, or a roster name or file.")] = "4",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
    visited_every: Annotated[
        int, typer.Option(min=1, help="Judge it as if only every so manyth exchange happened.")
    ] = 1,
) -> None:
    """Edges, connectivity, stochasticity, spectral gap and period."""
    from gossipdistill.observe import topology_view
    from gossipdistill.roster import load_roster
    from gossipdistill.topology import judge, load_topology

    schedule = load_topology(where, load_roster(peers).names)
    judgement = judge(schedule, visited_every)
    out_console.print(topology_view.render(schedule, judgement))
    if plot is not None:
        topology_view.plot(schedule, judgement, plot)
        out_console.print(f"\ndrawn to {plot}")


@strategy_app.command("list")
def strategy_list() -> None:
    """Strategies, with what each is."""
    from gossipdistill.observe.catalogue import strategy_names

    _print_names(strategy_names())


@strategy_app.command("show")
def strategy_show(name: Annotated[str, typer.Argument()]) -> None:
    """What it sends, needs and conserves; its keys and defaults."""
    from gossipdistill.observe.catalogue import describe_strategy

    out_console.print(describe_strategy(name))


@task_app.command("list")
def task_list() -> None:
    """Ready-made tasks."""
    from gossipdistill.tasks import list_tasks

    _print_names(list_tasks())


@task_app.command("show")
def task_show(name: Annotated[str, typer.Argument(metavar="NAME|module:function")], data_dir: DataDir = None) -> None:
    """Its options and defaults, and where its data come from."""
    from gossipdistill.observe.catalogue import describe_task_for

    out_console.print(describe_task_for(name, data_dir))


def main() -> None:
    """Run the command line; errors are one line, exit codes are documented in README.md."""
    try:
        app()
    except GossipdistillError as error:
        err_console.print(f"gossipdistill: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception:
        with tempfile.NamedTemporaryFile("w", prefix="gossipdistill-", suffix=".txt", delete=False) as report:
            report.write(traceback.format_exc())
        err_console.print(f"gossipdistill: a fault of ours; please send us the report in {report.name}", style="red")
        sys.exit(1)


def _asked(
    run_file: Path | None,
    peers: str | None,
    topology: str | None,
    task: str | None,
    strategy: str | None,
    steps: int | None,
    seconds: float | None,
    seed: int | None,
    settings: list[str] | None,
    data_dir: Path | None,
    device: str,
    out: Path,
    insecure: bool = False,
) -> Asked:
    from gossipdistill.launch.plan import Asked

    return Asked(
        run_file,
        peers,
        topology,
        task,
        strategy,
        steps,
        seconds,
        seed,
        tuple(settings or ()),
        data_dir,
        device,
        out,
        insecure,
    )


def _print_result(summary: dict[str, Any], output: Format, render: Any) -> None:
    if output is Format.JSON:
        print(json.dumps(summary))
    else:
        out_console.print(render(summary))


def _print_names(names: list[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, line in names:
        table.add_row(name, line)
    out_console.print(table)


def _split(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError("--strategies: name at least one")
    return names


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError("are whole numbers", key="--seeds", value=text, accepted="for example 0,1,2") from None
    if not numbers or min(numbers) < 0:
        raise ConfigError("needs numbers >= 0", key="--seeds", value=text, accepted="for example 0,1,2")
    return numbers


def _again(out: Path, folder: Path) -> str:
    return folder.name if out == RUNS else str(folder)
