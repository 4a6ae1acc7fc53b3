"""The records that a worker sends to its launcher, and a launcher to its observers: one class per kind, and one codec.

Between processes a record is one line of JSON, an object with its kind under "type". This module imports only the
standard library: a worker reports what it does before torch is imported, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from gossipdistill.observe.records import PeerRecord


@dataclass(frozen=True, slots=True)
class Phase:
    """A worker is starting; `text` says what it does now."""

    KIND: ClassVar[str] = "phase"
    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker is ready to train. `told` is a line for the user about its data; empty if the launcher shows it for
    all."""

    KIND: ClassVar[str] = "ready"
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    step: int = 0
    told: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A worker waits for other peers; `awaited` names them."""

    KIND: ClassVar[str] = "waiting"
    text: str
    awaited: str = "others"


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a worker, sent a few times a second while it trains. Losses are None if they are not finite, and
    before the first validation."""

    KIND: ClassVar[str] = "progress"
    step: int = 0
    share: float = 0.0
    """The share of the run that is over, 0 to 1."""
    elapsed_s: float = 0.0
    """The seconds that it has trained."""
    steps_per_s: float = 0.0
    loss: float | None = None
    exchanges: int = 0
    alive: int = 1
    """The number of peers known to be alive, including itself."""
    expected: int = 1
    left_s: float | None = None
    """The approximate remaining seconds; None while they are not known."""
    val_loss: float | None = None
    val_accuracy: float | None = None
    val_rows: int = 0
    """The number of rows in the validation figures; 0 before the first validation."""
    val_step: int = 0
    """The validation figures are of the model after this step."""
    links: Mapping[str, int] = field(default_factory=dict)
    """The number of exchanges with each sender."""
    ages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The ages of the parcels used of each sender, as counted by the ledger."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """The number of messages that each fault of a plan has bent, by the fault's number."""
    weight: float = 0.0
    """The push-sum weight that it holds; 0 without mass."""
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has trained to its end, with this result, and serves the others."""

    KIND: ClassVar[str] = "done"
    result: PeerRecord


@dataclass(frozen=True, slots=True)
class Result:
    """The last record of a worker that ends normally."""

    KIND: ClassVar[str] = "result"
    result: PeerRecord


@dataclass(frozen=True, slots=True)
class Failure:
    """A worker cannot take part or go on. `logged`: the whole report is in its log."""

    KIND: ClassVar[str] = "error"
    message: str
    exit_code: int = 1
    logged: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, as a line of text. `at_s` is in seconds since the start of the process."""

    KIND: ClassVar[str] = "event"
    at_s: float
    kind: str
    line: str
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """A launcher has started the process."""

    KIND: ClassVar[str] = "started"
    pid: int
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Exited:
    """A process has ended; `how` says how. `finished`: with a result of this `status`."""

    KIND: ClassVar[str] = "exited"
    how: str
    finished: bool
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Restarting:
    """A launcher restarts a lost peer."""

    KIND: ClassVar[str] = "restarting"
    attempt: int
    of: int


Told = Phase | Ready | Waiting | Progress | Done | Result | Failure | Happened | Started | Exited | Restarting
Report = Callable[[Told], None]
"""It takes the records of one peer."""
Watch = Callable[[str, Told], None]
"""It takes a peer's name and a record of the peer or of its launcher about it; the name is empty for the whole run."""

_KINDS: dict[str, type[Told]] = {
    kind.KIND: kind
    for kind in (Phase, Ready, Waiting, Progress, Done, Result, Failure, Happened, Started, Exited, Restarting)
}
_SAID = {"awaited": "for"}
"""These fields have another name in the JSON."""


def encoded(told: Told) -> dict[str, Any]:
    """The JSON object of this record."""
    if isinstance(told, Done | Result):
        return {"type": told.KIND, "result": told.result.plain()}
    return {"type": told.KIND} | {_SAID.get(key, key): value for key, value in asdict(told).items()}


def decoded(record: Mapping[str, Any]) -> Told | None:
    """The inverse of `encoded`; None if it is not a record of this release. Unknown keys are ignored."""
    kind = _KINDS.get(str(record.get("type")))
    if kind is None:
        return None
    given = {one.name: _SAID.get(one.name, one.name) for one in fields(kind)}
    try:
        if kind is Done or kind is Result:
            # Imported here because it is slow to import; see the module's docstring.
            from gossipdistill.observe.records import PeerRecord

            return kind(PeerRecord.model_validate(record["result"]))
        return kind(**{name: record[key] for name, key in given.items() if key in record})
    except (TypeError, KeyError, ValueError):  # a required field is missing
        return None
