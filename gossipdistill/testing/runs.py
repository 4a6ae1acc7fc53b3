"""A real run, from within a test: the same as `gossipdistill run`, with the results as an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossipdistill.config.plan import Asked, plan_local, settle
from gossipdistill.launchers.chaos import afflict, injection_of
from gossipdistill.launchers.local import LocalRun
from gossipdistill.launchers.preflight import check
from gossipdistill.launchers.restarts import AtMost
from gossipdistill.observe.endings import ended_well
from gossipdistill.observe.records import PeerRecord
from gossipdistill.observe.told import Failure, Happened, Phase, Told, Waiting


@dataclass(frozen=True)
class RunResult:
    """The result of a run. `summary` is the content of `summary.json`, `said` the lines that a user would have read."""

    summary: Mapping[str, Any]
    folder: Path
    said: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of `gossipdistill run`."""
        return int(self.summary["exit_code"])

    @property
    def peers(self) -> dict[str, dict[str, Any]]:
        """Each peer's entry of the summary, by name."""
        return {peer["name"]: peer for peer in self.summary["peers"]}

    def check(self) -> RunResult:
        """Return the result itself if all went well.

        Raises:
            AssertionError: names each expectation that is not met, and each peer that was lost unplanned, diverged,
                collapsed, or exchanged nothing although it could have.
        """
        if self.exit_code == 0:
            return self
        unmet = [verdict["line"] for verdict in self.summary["expectations"] if not verdict["met"]]
        lost = [
            f"{name} {peer['status']}: {'; '.join(peer['warnings']) or 'no reason given'}"
            for name, peer in self.peers.items()
            if not ended_well(PeerRecord.model_construct(**peer))
        ]
        raise AssertionError("\n".join([f"exit code {self.exit_code} of the run in {self.folder}", *unmet, *lost]))


def run(
    run_file: str | Path | None = None,
    *,
    faults: str | Path | None = None,
    peers: str | int | None = None,
    topology: str | None = None,
    task: str | None = None,
    strategy: str | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, object] | None = None,
    data_dir: Path | None = None,
    max_restarts: int = 0,
    out: Path = Path("runs"),
) -> RunResult:
    """Run several peers as processes of this machine, to their end. Call it on the main thread; Ctrl-C ends the peers.

    Args:
        run_file: what is trained and how; by default the ready-made run `first-light`.
        faults: a ready-made fault plan or a file.
        peers: a count, a ready-made roster or a roster file.
        topology: a ready-made topology or a file.
        task: a ready-made task, or `module:function`.
        strategy: the name of a strategy.
        steps: the number of steps after which a peer ends.
        seconds: the time after which a peer ends; the earlier end counts.
        seed: the seed of initial weights, shards and order.
        settings: any keys of a run file, dotted: {"train.lr": 0.1}.
        data_dir: the folder with data sets.
        max_restarts: how often a lost worker is restarted.
        out: the parent of run folders.

    Raises:
        GossipdistillError: if the run could not start; the message is the one of the command line.
    """
    asked = Asked(
        run_file=Path(run_file) if run_file is not None else None,
        peers=str(peers) if peers is not None else None,
        topology=topology,
        task=task,
        strategy=strategy,
        steps=steps,
        seconds=seconds,
        seed=seed,
        settings=tuple(f"{key}={value}" for key, value in (settings or {}).items()),
        data_dir=data_dir,
        out=out,
    )
    planned = afflict(plan_local(asked), faults)
    check(planned)
    specs = settle(planned)
    said: list[str] = []

    def watch(name: str, record: Told) -> None:
        match record:
            case Happened():
                text = record.line
            case Failure():
                text = record.message
            case Phase() | Waiting():
                text = record.text
            case _:
                return
        said.append(f"{name}: {text}" if name else text)

    local = LocalRun(specs, specs[0].folder.parent, watch, AtMost(max_restarts), injection_of(specs))
    local.run()
    return RunResult(local.summary.plain(), specs[0].folder.parent, tuple(said))
