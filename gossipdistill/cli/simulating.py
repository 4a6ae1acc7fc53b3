"""The command simulate: real workers, or a storm, in virtual time."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from gossipdistill.cli.options import (
    RUNS,
    DataDir,
    Faults,
    Format,
    FormatOption,
    Out,
    Seed,
    Settings,
    StrategyName,
    TaskName,
    Topology,
    err_console,
    out_console,
    print_notices,
    print_result,
    written_to,
)
from gossipdistill.errors import EXIT_LOST
from gossipdistill.observe.busy import busy

READY_MADE = "100 peers learn the task quadratic by sgp over one_peer_exponential, for 60 virtual seconds"
"""The description of `simulation.run.SIMULATED`, which would take seconds to import here."""


def simulate(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUNFILE", help=f"What and how. Default: {READY_MADE}.")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="A count, or a roster name or file. [env var: GOSSIPDISTILL_PEERS]"),
    ] = None,
    topology: Topology = None,
    task: TaskName = None,
    strategy: StrategyName = None,
    virtual_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="S", help="End after so many seconds of the simulated clock; the earlier end counts."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End when each peer has done so many steps.")
    ] = None,
    seed: Seed = None,
    faults: Faults = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    out: Out = RUNS,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw loss, consensus and exchanges: .png, .svg or .pdf.")
    ] = None,
    storm: Annotated[
        int | None, typer.Option(metavar="SEED", min=0, help="Replay this storm of the tests instead, with checkers.")
    ] = None,
    shrink: Annotated[bool, typer.Option("--shrink", help="With --storm: find a smaller storm that fails.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """The same workers and the same protocol in virtual time: thousands of peers on one core."""
    if storm is not None:
        _storm(storm, shrink)
        return
    with busy(err_console, "importing torch"):
        from gossipdistill.config.plan import Asked
        from gossipdistill.observe import simulated
        from gossipdistill.observe.report import noted
        from gossipdistill.runtime.aside import aside
        from gossipdistill.simulation.run import Simulation, load_plan, plan_simulation

        asked = Asked(
            run_file, peers, topology, task, strategy, steps, virtual_seconds, seed, settings, data_dir, "cpu", out
        )
        specs = plan_simulation(asked)
    print_notices(notice for spec in specs for notice in spec.notices)
    stop = _CtrlC()
    with _Bar(specs[0].config.seconds, len(specs)) as bar, aside():
        simulation = Simulation(specs, load_plan(specs, faults), bar.show, stop)
        code = simulation.run()
    folder = specs[0].typed(specs[0].folder.parent.parent / simulation.summary.name)
    unwritten: list[str] = []
    drawn = ""
    if plot is not None:
        with noted(unwritten):
            simulated.plot(simulation.summary, asked.here / plot)
            drawn = f", drawn to {plot}"
    if unwritten:
        simulation.summary = simulation.summary.but(unwritten=[*simulation.summary.unwritten, *unwritten])
        code = code or EXIT_LOST
    written = written_to(folder / "summary.json", simulation.summary.unwritten, drawn)
    print_result(simulation.summary, output, simulated.render, written)
    raise typer.Exit(code)


class _CtrlC:
    """Tells whether Ctrl-C or SIGTERM came; the simulation then ends and keeps its results."""

    def __init__(self) -> None:
        self._came = False
        self._install()

    def _install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != self._on_signal:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            raise SystemExit(128 + number)
        self._came = True

    def __call__(self) -> bool:
        self._install()  # a task may have replaced the handlers
        return self._came


class _Bar:
    """A progress bar with virtual time, living peers and events per second."""

    def __init__(self, seconds: float | None, peers: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.fields[now]}"),
            BarColumn(),
            TextColumn("{task.fields[peers]} peers"),
            TextColumn("{task.fields[rate]} events/s"),
            TimeRemainingColumn(),
            console=err_console,
            transient=True,
            refresh_per_second=5,
        )
        self._of = f" of {seconds:g}" if seconds is not None else ""
        self._task = self._bar.add_task("", total=1.0, now="building", peers=peers, rate="-")

    def show(self, now_s: float, share: float, alive: int, events_per_s: float) -> None:
        """Show the progress of the simulation."""
        now = f"{now_s:.1f}{self._of} virtual s"
        self._bar.update(self._task, completed=share, now=now, peers=alive, rate=f"{events_per_s:,.0f}")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def _storm(seed: int, smaller: bool) -> None:
    """Run one storm; exit code 1 if a checker finds a violation."""
    from gossipdistill.sim.scenario import blow, shrink, storm_of

    outcome = blow(storm_of(seed))
    if outcome.violations and smaller:
        checker = outcome.violations[0].checker
        least = shrink(outcome.storm, lambda one: any(v.checker == checker for v in blow(one).violations))
        outcome = blow(least)
    for line in outcome.storm.words():
        out_console.print(line, soft_wrap=True, markup=False, highlight=False)
    for violation in outcome.violations:
        out_console.print(f"  VIOLATED {violation}", soft_wrap=True, markup=False, highlight=False)
    if not outcome.violations:
        out_console.print(f"  no violation in {outcome.events} events", highlight=False)
    raise typer.Exit(1 if outcome.violations else 0)
