"""The commands that train: run, worker, compare."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gossipdistill.cli.options import (
    RUNS,
    DataDir,
    Device,
    Faults,
    Format,
    FormatOption,
    KeyFile,
    Out,
    Peers,
    RunFile,
    Seconds,
    Secure,
    Seed,
    Settings,
    Steps,
    StrategyName,
    TaskName,
    Topology,
    err_console,
    print_notices,
    print_result,
    written_to,
)
from gossipdistill.errors import ConfigError, UsageError
from gossipdistill.observe.busy import busy

if TYPE_CHECKING:
    from gossipdistill.config.spec import WorkerSpec
    from gossipdistill.observe.records import SummaryRecord

Name = Annotated[str | None, typer.Option(envvar="GOSSIPDISTILL_NAME", help="Which peer this is.")]
Listen = Annotated[
    str | None,
    typer.Option(
        envvar="GOSSIPDISTILL_LISTEN",
        metavar="HOST:PORT",
        help="Where to listen, if not at the roster's address; none: nobody can reach this peer, it dials out.",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(envvar="GOSSIPDISTILL_ADVERTISE", metavar="HOST:PORT", help="Where others reach this peer."),
]
Shard = Annotated[str | None, typer.Option(metavar="K/N", help="This peer's part of the data, from 1.")]
JoinFile = Annotated[
    Path | None,
    typer.Option(
        "--join",
        envvar="GOSSIPDISTILL_JOIN_FILE",
        metavar="FILE",
        help="The run's join secret (keys invite): enrol with a key that is in nobody's roster, and let others.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Other machines without keys: nothing is encrypted, nobody is who he says."),
]
OwnFaults = Annotated[
    str | None, typer.Option(metavar="PLAN", help="Do to this peer what a fault plan says: its name or file.")
]


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
    max_restarts: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Restart a lost worker up to so many times. If that cost a tenth of its steps: exit code 10.",
        ),
    ] = 0,
    faults: Faults = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run of this name (another one: --set name=NAME).")
    ] = False,
    secure: Secure = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Several peers on this machine, to the end, with a table."""
    with busy(err_console, "importing torch") as say:
        from gossipdistill.config.plan import Asked, plan_local, settle
        from gossipdistill.keys.choice import KeyOptions
        from gossipdistill.launchers.chaos import afflict, injection_of
        from gossipdistill.launchers.local import LocalRun
        from gossipdistill.launchers.preflight import check, title_of
        from gossipdistill.launchers.restarts import AtMost
        from gossipdistill.observe.display import Display
        from gossipdistill.observe.report import render

        say("reading the configuration and the data, and trying the model")
        asked = Asked(
            run_file,
            peers,
            topology,
            task,
            strategy,
            steps,
            seconds,
            seed,
            settings,
            data_dir,
            device,
            out,
            KeyOptions(secure=secure),
        )
        planned = afflict(plan_local(asked, resume=resume), faults)
        findings = check(planned)
        specs = settle(planned)
        folder = specs[0].typed(specs[0].folder.parent)
        title = title_of(specs, findings)
    print_notices(notice for spec in specs for notice in spec.notices)
    with Display(err_console, title) as display:
        local = LocalRun(specs, specs[0].folder.parent, display, AtMost(max_restarts), injection_of(specs))
        code = local.run()
    written = written_to(folder / "summary.json", local.summary.unwritten)
    again = f"Again:     gossipdistill show {_again(out, folder)}"
    if output is Format.JSON:
        _print_unmet(local.summary)
    print_result(local.summary, output, render, written, again)
    raise typer.Exit(code)


def worker(
    run_file: RunFile = None,
    name: Name = None,
    peers: Peers = None,
    listen: Listen = None,
    advertise: Advertise = None,
    shard: Shard = None,
    start_when: Annotated[int, typer.Option(min=1, metavar="N", help="Wait for N peers before the first step.")] = 1,
    start_within: Annotated[float, typer.Option(min=0, metavar="S", help="Wait at most so many seconds.")] = 60.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume from this peer's checkpoint.")] = False,
    key: KeyFile = None,
    join: JoinFile = None,
    secure: Secure = False,
    insecure: Insecure = False,
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
    faults: OwnFaults = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """One peer of a cluster. Starts at once, in any order; resumes from its checkpoint."""
    with busy(err_console, "importing torch"):
        from gossipdistill.config.plan import Asked, plan_worker
        from gossipdistill.config.threads import told
        from gossipdistill.keys.choice import INSECURE, KeyOptions
        from gossipdistill.launchers.chaos import afflict
        from gossipdistill.launchers.own_faults import worker_under_plan
        from gossipdistill.observe.display import Display
        from gossipdistill.observe.report import render
        from gossipdistill.runtime.alone import run_alone
        from gossipdistill.runtime.peer_files import RESULT_FILE

        asked = Asked(
            run_file,
            peers,
            topology,
            task,
            strategy,
            steps,
            seconds,
            seed,
            settings,
            data_dir,
            device,
            out,
            KeyOptions(key, join, secure, insecure),
        )
        (spec,) = afflict([plan_worker(asked, name, listen, advertise, shard, start_when, start_within, fresh)], faults)
    print_notices(spec.notices)
    if spec.insecure:
        err_console.print(f"gossipdistill: {INSECURE}", style="bold red", markup=False, soft_wrap=True)
    with Display(err_console, _title_of(spec, told(spec.threads))) as display:
        if spec.faults is None:
            code, summary = run_alone(spec, display)
        else:
            injected = worker_under_plan(spec, display)
            code, summary = injected.run(), injected.summary
    folder = spec.typed(spec.folder)
    everybody = f"    All peers: gossipdistill show {_again(out, folder.parent)}"
    written = written_to(folder / RESULT_FILE, summary.peers[0].unwritten, everybody)
    print_result(summary, output, render, written)
    raise typer.Exit(code)


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
    faults: Faults = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Several strategies on the same data and budget, in one table. With --faults, those that gossip run twice."""
    with ExitStack() as showing:
        say = showing.enter_context(busy(err_console, "importing torch"))
        from gossipdistill.config.plan import Asked
        from gossipdistill.launchers.compare import Comparison
        from gossipdistill.observe.comparison import render
        from gossipdistill.observe.display import Display

        asked = Asked(run_file, peers, topology, task, None, steps, seconds, None, settings, data_dir, device, out)
        say("reading the configuration and the data, and trying each strategy's model")

        def announce(title: str) -> Display:
            showing.close()  # the display of the row before
            return showing.enter_context(Display(err_console, title))

        comparison = Comparison(asked, _split(strategies), _numbers(seeds), announce, faults)
        code = comparison.run()
    folder = out / comparison.summary.name
    print_result(
        comparison.summary,
        output,
        render,
        "Try next:  kill -9 one of them yourself:  gossipdistill run --seconds 60   "
        "(process ids are shown beside the names)",
        f"Runs:      {folder}/*/summary.json         Again:  gossipdistill show {_again(out, folder)}",
    )
    raise typer.Exit(code)


def _print_unmet(summary: SummaryRecord) -> None:
    """The expectations that are not met, beside a summary that is printed as JSON."""
    for verdict in summary.expectations:
        if not verdict.met:
            err_console.print(verdict.line, style="red", markup=False, soft_wrap=True)


def _title_of(spec: WorkerSpec, threads: str) -> str:
    """The first line of the display of one worker."""
    what = f"{spec.config.name}: {spec.config.strategy.name} on {spec.config.task.name}"
    return f"{spec.name} of {what}, at {spec.listen}, {threads}"


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
