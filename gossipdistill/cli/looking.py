"""The commands that only show something: show, story, topology, faults, strategy, task, config; and new, which writes
example files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from gossipdistill.cli.options import (
    RUNS,
    DataDir,
    Format,
    FormatOption,
    Out,
    err_console,
    out_console,
    print_names,
    print_result,
)

topology_app = typer.Typer(help="Who talks to whom.", no_args_is_help=True)
faults_app = typer.Typer(help="What goes wrong, and what must hold all the same.", no_args_is_help=True)
strategy_app = typer.Typer(help="What is exchanged, and what it needs.", no_args_is_help=True)
task_app = typer.Typer(help="What is learned.", no_args_is_help=True)
config_app = typer.Typer(help="The keys of a run, and what each means.", no_args_is_help=True)


def show(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Name or folder. Default: the newest.")] = None,
    out: Out = RUNS,
    wait_s: Annotated[
        float, typer.Option(min=0, metavar="S", help="Wait for all peers' results, at most so many seconds.")
    ] = 0.0,
    output: FormatOption = Format.TABLE,
) -> None:
    """The final table of a run, again."""
    from gossipdistill.observe.show import find_and_wait, render

    summary = find_and_wait(out, run, wait_s, err_console)
    print_result(summary, output, render)


def story(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or folder.")],
    what: Annotated[str, typer.Argument(metavar="PEER|PARCEL", help="A name, or sender/topic/number.")],
    out: Out = RUNS,
) -> None:
    """Why something happened: the events about a peer or a parcel, in order, in words."""
    from gossipdistill.observe.report import find_run
    from gossipdistill.observe.story import tell

    for line in tell(find_run(out, run), what):
        out_console.print(line, soft_wrap=True, markup=False, highlight=False)


def new(
    folder: Annotated[Path, typer.Argument(help="Made if it is not there; nothing is overwritten.")],
) -> None:
    """The files of a run of your own, ready to edit."""
    from gossipdistill.cli.scaffold import write_examples

    for path in write_examples(folder):
        out_console.print(f"  {path}")
    out_console.print(f"\nTry:  cd {folder}  &&  gossipdistill run first-light.toml")


@topology_app.command("list")
def topology_list() -> None:
    """Ready-made topologies."""
    from gossipdistill.topology import list_topologies

    print_names(list_topologies())


@topology_app.command("show")
def topology_show(
    where: Annotated[str, typer.Argument(metavar="NAME|FILE")],
    peers: Annotated[str, typer.Option(metavar="WHERE", help="A count, or a roster name or file.")] = "4",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
    visited_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Judge it as if only every so manyth exchange happened.")
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


@faults_app.command("list")
def faults_list() -> None:
    """Ready-made fault plans."""
    from gossipdistill.faults import list_fault_plans

    print_names(list_fault_plans())


@faults_app.command("show")
def faults_show(
    where: Annotated[str, typer.Argument(metavar="NAME|FILE")],
    peers: Annotated[str, typer.Option(metavar="WHERE", help="A count, or a roster name or file.")] = "4",
) -> None:
    """What goes wrong when and for whom, and what is expected all the same."""
    from gossipdistill.faults import load_fault_plan
    from gossipdistill.observe import fault_view
    from gossipdistill.roster import load_roster

    names = load_roster(peers).names
    out_console.print(fault_view.render(load_fault_plan(where, names), names))


@strategy_app.command("list")
def strategy_list() -> None:
    """Strategies, with what each is."""
    from gossipdistill.observe.catalogue import strategy_names

    print_names(strategy_names())


@strategy_app.command("show")
def strategy_show(name: Annotated[str, typer.Argument()]) -> None:
    """What it sends, needs and conserves; its keys and defaults."""
    from gossipdistill.observe.catalogue import describe_strategy

    out_console.print(describe_strategy(name))


@task_app.command("list")
def task_list() -> None:
    """Ready-made tasks."""
    from gossipdistill.tasks import list_tasks

    print_names(list_tasks())


@task_app.command("show")
def task_show(name: Annotated[str, typer.Argument(metavar="NAME|module:function")], data_dir: DataDir = None) -> None:
    """Its options and defaults, and where its data come from."""
    from gossipdistill.observe.catalogue import describe_task_for

    out_console.print(describe_task_for(name, data_dir))


OwnTask = Annotated[
    str | None, typer.Option("--task", metavar="NAME|module:function", help="Also the options of a task of your own.")
]


@config_app.command("list")
def config_list(task: OwnTask = None, output: FormatOption = Format.TABLE) -> None:
    """Every key with its type, default, unit and meaning."""
    _print_keys(None, task, output)


@config_app.command("show")
def config_show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Such as train.lr; or a section, such as train.")],
    task: OwnTask = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """One key, or the keys of one section: type, default, unit and meaning."""
    _print_keys(key, task, output)


def _print_keys(name: str | None, task: str | None, output: Format) -> None:
    from gossipdistill.config.key_index import find, keys, of_task
    from gossipdistill.observe.report import as_json
    from gossipdistill.tasks import TASKS

    found = keys() + (of_task(task) if task is not None and task not in TASKS else [])
    if task is not None:
        found = [key for key in found if not key.name.startswith("task.") or key.of in ((), (task,))]
    if name is not None:
        found = find(name, found)
    if output is Format.JSON:
        print(as_json([key.as_json() for key in found]))
        return
    for key in found:
        out_console.print(Text.assemble((key.name, "bold"), "  ", (key.facts(), "dim")))
        owners = f"  (of {', '.join(key.of)})" if key.of else ""
        out_console.print(Padding(Text(f"{key.meaning}{owners}"), (0, 0, 0, 4)))
