"""The results of one run as `summary.json` and as a table."""

from __future__ import annotations

import contextlib
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

import gossipdistill
from gossipdistill.durable import Disk, put, reason_of
from gossipdistill.errors import ConfigError, nearest
from gossipdistill.files import changed_s, entries, is_folder, is_there
from gossipdistill.observe.dealt import data_words
from gossipdistill.observe.endings import ended_well, exit_code_of, reasons_of, warnings_of
from gossipdistill.observe.fitting import Column, Fitting
from gossipdistill.observe.notices import merged
from gossipdistill.observe.outputs import ensemble_accuracy
from gossipdistill.observe.record import Record, plain, read_record
from gossipdistill.observe.records import (
    AllScores,
    ConfigRecord,
    FaultRecord,
    FaultsRecord,
    PeerRecord,
    SettingRecord,
    SummaryRecord,
    VerdictRecord,
)


class _Named(Protocol):
    """The parts of a run's configuration that a summary needs."""

    @property
    def name(self) -> str: ...
    @property
    def topology(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def task(self) -> Any: ...
    @property
    def strategy(self) -> Any: ...


def summarise(
    config: _Named,
    peers: Sequence[PeerRecord],
    wall_s: float,
    exit_code: int,
    folder: Path,
    faults: Sequence[FaultRecord] = (),
    expectations: Sequence[VerdictRecord] = (),
) -> SummaryRecord:
    """The object in `summary.json`. Means are over finished peers."""
    finished = [peer for peer in peers if peer.status == "finished"]
    scores = [peer.val_accuracy for peer in finished if peer.val_accuracy is not None]
    accuracy = None
    if scores:
        ensemble, problems = ensemble_accuracy(folder, [peer.name for peer in finished])
        peers = [_warned(peer, problems.get(peer.name)) for peer in peers]
        mean, worst = round(float(np.mean(scores)), 6), round(min(scores), 6)
        accuracy = AllScores(mean=mean, worst=worst, ensemble=ensemble, over=len(scores))
    return SummaryRecord(
        version=1,
        name=folder.name,
        task=config.task.name,
        strategy=config.strategy.name,
        topology=config.topology,
        seed=config.seed,
        wall_s=round(wall_s, 3),
        exit_code=exit_code,
        val_accuracy=accuracy,
        push_sum_weight=_sum_of_weights(peers),
        data=data_words((peer.examples for peer in peers), config.task.shards, config.task.classes_per_peer),
        peers=[peer.without("links") for peer in peers],
        links=[link for peer in peers for link in peer.links],
        faults=list(faults),
        expectations=list(expectations),
        versions={
            "gossipdistill": gossipdistill.__version__,
            "torch": metadata.version("torch"),
            "python": platform.python_version(),
        },
    )


def _sum_of_weights(peers: Sequence[PeerRecord]) -> float | None:
    """The sum of the push-sum weights that the peers hold at the end; None without a strategy of mass."""
    held = [peer.push_sum_weight for peer in peers if peer.push_sum_weight is not None]
    return round(sum(held), 6) if held else None


def _weights_warning(summary: SummaryRecord) -> list[str]:
    """A warning if the push-sum weights do not add up. Each peer begins with 1; a killed peer's weight is lost; a sum
    above the number of peers means that a peer has made up weight."""
    total, count = summary.push_sum_weight, len(summary.peers)
    if total is None or count / 3 <= total <= 3 * count:
        return []
    return [f"the push-sum weights of {count} peers add up to {total:.3g}, not to about {count}: {_WEIGHTS_MEAN}"]


_WEIGHTS_MEAN = "peers were killed, mass was still under way, or a peer takes or creates weight"


FAULTS_FILE = "faults.json"
"""The file is in the folder of a peer whose own launcher has applied a fault plan."""
_COLUMNS = (
    Column("peer"),
    Column("status"),
    Column("steps", right=True),
    Column("steps/s", right=True, dispensable=1),
    Column("accuracy %", right=True),
    Column("loss", right=True),
    Column("sent", right=True),
    Column("received", right=True, dispensable=3),
    Column("exchanges", right=True),
    Column("age s", right=True, dispensable=2),
    Column("CPU ms/step", right=True, dispensable=4),
)


def _warned(peer: PeerRecord, problem: str | None) -> PeerRecord:
    return peer if problem is None else peer.but(warnings=[*peer.warnings, problem])


def render(summary: SummaryRecord) -> RenderableType:
    """The final table of a run, for a rich console."""
    summary = summary.printable()
    count = len(summary.peers)
    head = (
        f"{summary.name}: {summary.task}, {summary.strategy}, {summary.topology}, "
        f"{count} peer{'s' * (count > 1)}, seed {summary.seed}, {summary.wall_s:.1f} s"
    )
    table = Fitting(_COLUMNS, [_row(peer) for peer in summary.peers])
    parts: list[RenderableType] = [Text(head, style="bold")]
    parts += [Text(f"data: {summary.data}")] if summary.data else []
    parts.append(table)
    parts += [Text(line, style="bold red" if bad else "") for line, bad in _notes(summary)]
    parts += [Text(_fault_line(number, fault)) for number, fault in enumerate(summary.faults, start=1)]
    for verdict in summary.expectations:
        parts.append(Text(verdict.line, style="" if verdict.met else "bold red"))
    return Group(*parts)


def _row(peer: PeerRecord) -> list[Text | str]:
    style = "" if ended_well(peer) else "bold red"
    status = peer.status
    if peer.incarnations > 1:
        status += f" (start {peer.incarnations})"
    age = peer.age_s.median if peer.age_s else None
    return [
        peer.name,
        Text(status, style=style),
        str(peer.steps),
        _figure(peer.steps_per_s, 1),
        _figure(_times(peer.val_accuracy, 100), 1),
        _figure(peer.val_loss, 3),
        size(peer.bytes_sent),
        size(peer.bytes_received),
        str(peer.parcels_used),
        _figure(age, 2),
        _figure(_times(peer.cpu_s_per_step, 1000), 2),
    ]


_HARM = ("muted", "rate", "bytes", "oversize", "replay", "slots")
"""These reasons for refusing messages are reported; others, such as `repeated`, occur in every run."""


def _notes(summary: SummaryRecord) -> list[tuple[str, bool]]:
    """The lines below the table, each with whether it says why something is not a success."""
    notes = []
    accuracy = summary.val_accuracy
    if accuracy:
        over = f"over {accuracy.over} of {len(summary.peers)} peers"
        over += " (those that finished)" if accuracy.over < len(summary.peers) else ""
        text = f"accuracy: mean {100 * accuracy.mean:.1f} %, worst {100 * accuracy.worst:.1f} %"
        if accuracy.ensemble is not None and accuracy.over > 1:
            text += f", ensemble {100 * accuracy.ensemble:.1f} %"
        notes.append(f"{text}, {over}")
    elif not any(peer.status == "finished" for peer in summary.peers):
        notes.append("no peer finished, so there is no mean")
    bad = [(peer.name, text) for peer in summary.peers for text in reasons_of(peer)]
    said = [(peer.name, text) for peer in summary.peers for text in warnings_of(peer)]
    count = len(summary.peers)
    wrong = [*merged(bad, count), *_weights_warning(summary)]
    told = [(line, True) for line in wrong] + [(line, False) for line in merged(said, count)]
    return [*((note, False) for note in notes), *told, *((note, False) for note in _figures(summary))]


def _figures(summary: SummaryRecord) -> list[str]:
    """Lines on what was measured, refused and waited for."""
    notes = []
    for peer in summary.peers:
        metrics = {name: value for name, value in peer.metrics.items() if name != "accuracy"}
        if metrics:
            notes.append(f"{peer.name}: " + ", ".join(f"{name} {_figure(v, 4)}" for name, v in metrics.items()))
        if peer.quarantined:
            refused = ", ".join(f"{key} x{count}" for key, count in peer.quarantined.items())
            notes.append(f"{peer.name}: payloads refused: {refused}")
        if peer.unusual_norms:
            unusual = ", ".join(f"{key} x{count}" for key, count in peer.unusual_norms.items())
            notes.append(f"{peer.name}: weights of an unusual norm: {unusual}")
        if peer.malformed:
            notes.append(f"{peer.name}: malformed messages: {peer.malformed}")
        harm = {key: n for key, n in peer.turned_away.items() if key.rpartition(": ")[2] in _HARM}
        if harm:
            away = ", ".join(f"{key} x{count}" for key, count in harm.items())
            notes.append(f"{peer.name}: turned away: {away}")
    waited = {peer.name: peer.waited_s for peer in summary.peers if peer.waited_s is not None}
    if waited:
        each = ", ".join(f"{name} {waited_s:.1f} s" for name, waited_s in waited.items())
        notes.append(f"{summary.strategy} goes in lockstep, each round waits for the slowest neighbour; waited: {each}")
    if any(peer.bytes_are_computed for peer in summary.peers):
        notes.append("bytes sent are by the formula of the collective, not counted at sockets")
    return notes


def _fault_line(number: int, fault: FaultRecord) -> str:
    if fault.began_s is None:
        return f"fault {number}: {fault.what}: did not begin before the end"
    until = "the end" if fault.ended_s is None else f"{fault.ended_s:.1f} s"
    at_once = fault.ended_s == fault.began_s
    when = f"at {until}" if at_once else f"{fault.began_s:.1f} s to {until}"
    fired = "" if fault.fired is None else f" (fired {fault.fired} x)"
    return f"fault {number}, {when}: {fault.what}{fired}"


def as_json(value: Any, indent: int | None = None) -> str:
    """The value as standard JSON, which has only finite numbers: other figures become null."""
    return json.dumps(_finite_or_none(plain(value)), indent=indent, allow_nan=False)


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite_or_none(entry) for key, entry in value.items()}
    return [_finite_or_none(entry) for entry in value] if isinstance(value, list) else value


def write_json(path: Path, value: Record | Mapping[str, Any], disk: Disk | None = None) -> None:
    """Write one object atomically: a reader finds the old file or the whole new one.

    Raises:
        OSError: with the name of the file; a partial file is removed.
    """
    put(path, [f"{as_json(value, indent=1)}\n".encode()], disk or Disk(), synced=False)


@contextlib.contextmanager
def noted(unwritten: list[str]) -> Iterator[None]:
    """A context for writing a file at the end. An error is added to `unwritten` as `FILE: reason`, and the results are
    shown nevertheless."""
    try:
        yield
    except OSError as error:
        unwritten.append(reason_of(error))


def newest_run(out: Path) -> Path:
    """The most recently changed run folder.

    Raises:
        ConfigError: when there is none.
    """
    runs = [folder for folder in entries(out, "*") if _is_run(folder)]
    if not runs:
        raise ConfigError("holds no runs yet; start one with: gossipdistill run", file=out)
    return max(runs, key=lambda folder: max(map(changed_s, entries(folder, "**/*.json")), default=0.0))


def find_run(out: Path, run: str | None) -> Path:
    """The folder of a run by its name or path; without `run`, the newest.

    Raises:
        ConfigError: when there is no such run, with the nearest names.
    """
    if run is None:
        return newest_run(out)
    for folder in (out / run, Path(run)):
        if _is_run(folder):
            return folder
    known = [folder.name for folder in entries(out, "*") if _is_run(folder)]
    raise ConfigError(f"no such run in {out}; {nearest(run, known)}", key="RUN", value=run)


def load_summary(folder: Path) -> SummaryRecord:
    """Read `summary.json` of a run. Without one (a cluster, containers), it is made from the peers' own results.

    Raises:
        ConfigError: when it cannot be read.
    """
    path = folder / "summary.json"
    return _collected(folder) if not is_there(path) else read_record(path, SummaryRecord)


def _is_run(folder: Path) -> bool:
    """Whether this is the folder of a run or a comparison."""
    written = any(is_there(folder / name) for name in ("summary.json", "compare.json"))
    return is_folder(folder) and (written or bool(entries(folder, "*/config.json")))


class _Settings:
    """The values of a `config.json` that a summary needs."""

    def __init__(self, values: Mapping[str, SettingRecord]) -> None:
        def value(key: str) -> Any:
            return values[key].value if key in values else None

        self.name, self.topology = str(value("name")), str(value("topology"))
        self.seed = value("seed") if isinstance(value("seed"), int) else 0
        classes = value("task.classes_per_peer")
        task = {"name": str(value("task.name")), "shards": str(value("task.shards"))}
        self.task = type("Task", (), task | {"classes_per_peer": classes if isinstance(classes, int) else None})
        self.strategy = type("Strategy", (), {"name": str(value("strategy.name"))})


def _collected(folder: Path) -> SummaryRecord:
    configs = entries(folder, "*/config.json")
    peers = [_entry_of(config.parent) for config in configs]
    settings = _Settings(_first_readable(configs))
    wall_s = max((peer.wall_s or 0.0 for peer in peers), default=0.0)
    return summarise(settings, peers, wall_s, exit_code_of(peers), folder, _collected_faults(folder))


def _entry_of(folder: Path) -> PeerRecord:
    """A peer's result, or an entry that says that it is missing or unreadable. The peer's name is taken from its
    folder: the name in the file is not trusted."""
    path = folder / "result.json"
    if not is_there(path):
        return unknown_peer(folder.name)
    try:
        return read_record(path, PeerRecord).but(name=folder.name)
    except ConfigError as error:
        return unknown_peer(folder.name).but(warnings=[f"{path.name} {error.problem}"])


def _first_readable(configs: Sequence[Path]) -> Mapping[str, SettingRecord]:
    """The settings of the first peer whose `config.json` can be read.

    Raises:
        ConfigError: when none can.
    """
    first: ConfigError | None = None
    for config in configs:
        try:
            return read_record(config, ConfigRecord).root
        except ConfigError as error:
            first = first or error
    raise first or ConfigError("holds no config.json of any peer")


def _collected_faults(folder: Path) -> list[FaultRecord]:
    """The course of the faults of a plan that each peer has applied on its own. Each reports the faults that affected
    it, and the number of its messages that were bent."""
    told = [read_record(file, FaultsRecord).faults for file in entries(folder, f"*/{FAULTS_FILE}")]
    merged = []
    for same in zip(*told, strict=False):
        began_s = min((entry.began_s for entry in same if entry.began_s is not None), default=None)
        ended_s = max((entry.ended_s for entry in same if entry.ended_s is not None), default=None)
        merged.append(same[0].but(began_s=began_s, ended_s=ended_s, fired=sum(entry.fired or 0 for entry in same)))
    return merged


def unknown_peer(name: str) -> PeerRecord:
    """The entry of a peer without a result: it is still running, or was lost."""
    return PeerRecord(
        cpu_s_per_step=None,
        val_loss=None,
        val_accuracy=None,
        bytes_sent=None,
        bytes_received=None,
        messages_sent=None,
        messages_received=None,
        staleness_steps=None,
        age_s=None,
        name=name,
        status="lost",
        incarnations=1,
        steps=0,
        steps_per_s=0.0,
        metrics={},
        parcels_used=0,
        quarantined={},
        warnings=["no result was written: still running, or lost"],
    )


def size(count: float | None) -> str:
    """A number of bytes with its unit; 1 kB is 1000 bytes."""
    if count is None:
        return "-"
    if count < 999_500:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.1f} MB" if count < 999.5e6 else f"{count / 1e9:.2f} GB"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
