"""The files of a run: the keys of each, and those that it needs to be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, RootModel

from gossipdistill.faults.kinds import Fault
from gossipdistill.faults.measuring import Verdict
from gossipdistill.observe.record import Count, Known, Number, Record, Written, read_record


class Spread(Record):
    """A distribution, such as the ages (s) of the parcels that were used."""

    median: Number | None
    p95: Written[Number | None] = None
    max: Written[Number | None] = None


class ExamplesRecord(Record):
    """The number of examples that a peer trains on, and the size of the pool."""

    used: Count
    pool: int | None
    asked: int | None
    transfer: Count


class LinkRecord(Record):
    """The exchanges of a peer with one sender."""

    sender: Written[str] = Field("", validation_alias="from")
    to: Written[str] = ""
    exchanges: Written[int] = 0
    exchanges_per_s: Written[Number] = 0.0
    dropped: Written[int] = 0
    age_s_p95: Written[Number | None] = None


class PeerRecord(Record):
    """`result.json`, and an entry of the `peers` of `summary.json`."""

    name: str
    status: str
    incarnations: Count
    steps: Count
    steps_per_s: Number
    cpu_s_per_step: Number | None
    val_loss: Number | None
    val_accuracy: Number | None
    metrics: dict[str, Number | None]
    bytes_sent: Number | None
    bytes_received: Number | None
    parcels_used: Count
    age_s: Spread | None
    quarantined: dict[str, int]
    warnings: list[str]
    reason: str = ""
    """It says why the training has not ended well."""
    troubles: list[str] = Field(default_factory=list)
    """They say why a finished peer is not a success; they are also among the warnings."""
    push_sum_weight: Number | None = None
    unusual_norms: dict[str, int] = Field(default_factory=dict)
    out_of_range: dict[str, int] = Field(default_factory=dict)
    turned_away: dict[str, int] = Field(default_factory=dict)
    waited_s: Number | None = None
    wall_s: Number | None = None
    serving: bool = False
    bytes_are_computed: bool = False
    links: list[LinkRecord] = Field(default_factory=list)
    examples: ExamplesRecord | None = None
    unwritten: list[str] = Field(default_factory=list)
    pid: Written[int | None] = None
    cores: Written[Number | None] = None
    threads: Written[int] = 1
    messages_sent: Written[int | None] = None
    messages_received: Written[int | None] = None
    first_exchange_s: Written[Number | None] = None
    staleness_steps: Written[Spread | None] = None
    malformed: Written[dict[str, int]] = Field(default_factory=dict)
    lived_s: Written[Number | None] = None
    """The virtual seconds that a simulated process has lived."""


class FaultRecord(Record):
    """The course of one fault of a plan; its keys in the plan come before these."""

    what: str
    began_s: Number | None
    ended_s: Number | None
    fired: int | None

    @classmethod
    def of(cls, fault: Fault, began_s: float | None, ended_s: float | None, fired: int) -> FaultRecord:
        """The record, as in `summary.json`."""
        entry = fault.model_dump(mode="json", exclude_none=True) | {"what": fault.words()}
        return cls.model_validate(entry | {"began_s": began_s, "ended_s": ended_s, "fired": fired})


class FaultsRecord(Record):
    """`faults.json`."""

    faults: list[FaultRecord]


class VerdictRecord(Record):
    """Whether an expectation of a plan was met."""

    line: str
    met: bool
    metric: Written[str] = ""
    peers: Written[list[str]] = Field(default_factory=list)
    at_least: Written[Number | None] = None
    at_most: Written[Number | None] = None
    measured: Written[Number | None] = None
    reason: Written[str] = ""
    """It says why nothing was measured."""

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictRecord:
        """The record, as in `summary.json`."""
        bounds = {"at_least": verdict.expected.at_least, "at_most": verdict.expected.at_most}
        figure = verdict.figure
        return cls.model_validate(
            {"metric": verdict.expected.metric, "peers": list(verdict.peers)}
            | {name: bound for name, bound in bounds.items() if bound is not None}
            | {"measured": None if figure.value is None else round(figure.value, 4), "met": verdict.met}
            | ({"reason": figure.why} if figure.why else {})
            | {"line": verdict.line()}
        )


class Scores(Record):
    """The accuracy over the peers that finished, as in a comparison."""

    mean: Number
    worst: Number


class AllScores(Scores):
    """The accuracy over the peers that finished, as in a run."""

    ensemble: Number | None
    over: Count


class Spans(Record):
    """Mean, minimum and maximum over peers."""

    mean: Number
    least: Number
    most: Number


class CurveRecord(Record):
    """The curves that are drawn over virtual time; each list has one entry per sample."""

    model_config = ConfigDict(allow_inf_nan=True)

    at_s: list[Number]
    loss: list[Number | None]
    consensus: list[Number | None]
    exchanges_per_s: list[Number]
    alive: list[int]


class SimulationRecord(Record):
    """The figures that only a simulation has."""

    model_config = ConfigDict(allow_inf_nan=True)

    virtual_s: Number
    building_s: Number
    learner_s: Number
    events: int
    events_per_s: Number
    protocol_us_per_event: Number
    memory_mib: Number
    consensus_distance: Number | None
    mass_error: Number | None
    violations: list[str]
    notes: list[str]
    messages: dict[str, int]
    curve: CurveRecord
    per_peer: dict[str, Spans | None]


class SummaryRecord(Record):
    """`summary.json`."""

    name: str
    task: str
    strategy: str
    topology: str
    seed: int
    wall_s: Number
    val_accuracy: AllScores | None
    peers: list[PeerRecord]
    push_sum_weight: Number | None = None
    faults: list[FaultRecord] = Field(default_factory=list)
    expectations: list[VerdictRecord] = Field(default_factory=list)
    data: str | None = None
    unwritten: list[str] = Field(default_factory=list)
    version: Written[int] = Field(1, validation_alias="schema")
    exit_code: Written[int] = 0
    links: Written[list[LinkRecord]] = Field(default_factory=list)
    versions: Written[dict[str, str]] = Field(default_factory=dict)
    simulation: Written[SimulationRecord | None] = None


class SettingRecord(Record):
    """One key of `config.json`."""

    value: Any


class ConfigRecord(RootModel[dict[str, SettingRecord]]):
    """`config.json`: each key with its value."""


class CompareRow(Record):
    """One run of a comparison."""

    strategy: str
    seed: int = 0
    exit_code: int | None = None
    faults: str | None = None
    peers: Count
    finished: Count
    troubles: list[str]
    warnings: list[str]
    models: list[str]
    val_accuracy: Scores | None
    val_loss: Number | None
    bytes_sent_per_peer: Number | None
    bytes_are_computed: bool
    cpu_s_per_step: Number | None
    expectations: list[VerdictRecord] = Field(default_factory=list)
    run: Written[str | None] = None
    steps: Written[Number | None] = None
    wall_s: Written[Number | None] = None
    trained_s: Written[Number | None] = None


class Budget(Record):
    """The limits of the runs of a comparison."""

    steps: int | None
    seconds: Number | None


class CompareRecord(Record):
    """`compare.json`."""

    task: str
    peers: Count
    budget: Budget
    step_time_s: Number
    examples_per_peer: int | None
    transfer_examples: Count
    classes: bool
    seeds: Annotated[list[int], Field(min_length=1)]
    exit_code: int = 0
    examples: ExamplesRecord | None = None
    strategies: list[str] = Field(default_factory=list)
    config: dict[str, SettingRecord]
    runs: list[CompareRow]
    version: Written[int] = Field(1, validation_alias="schema")
    name: Written[str] = ""
    unwritten: Written[list[str]] = Field(default_factory=list)


class EventRecord(Known):
    """One line of `events.jsonl`."""

    at_s: Number
    kind: str
    peer: str
    reason: str
    detail: dict[str, str | int | float] = Field(default_factory=dict)


def read_setting(path: Path, key: str) -> Any:
    """The value of a key in a `config.json`; None where it has none.

    Raises:
        ConfigError: when the file is damaged.
    """
    setting = read_record(path, ConfigRecord).root.get(key)
    return setting.value if setting is not None else None
