"""What a worker tells its launcher, and a launcher those who watch: a class for each kind of record, and one codec.

Between processes a record is one line of JSON, an object with its kind under "type". Standard library only: a worker
says what it does before torch is imported, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from gossipdistill.observe.records import PeerRecord


@dataclass(frozen=True, slots=True)
class Phase:
    """A worker that starts: what it does now."""

    KIND: ClassVar[str] = "phase"
    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """It could train now. `told` is a line for the user about its data; empty where the launcher says it for all."""

    KIND: ClassVar[str] = "ready"
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    step: int = 0
    told: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """It waits for other peers, whose names are in `awaited`."""

    KIND: ClassVar[str] = "waiting"
    text: str
    awaited: str = "others"


@dataclass(frozen=True, slots=True)
class Progress:
    """A few times a second while it trains. Losses are None where they are not finite, and before the first look."""

    KIND: ClassVar[str] = "progress"
    step: int = 0
    share: float = 0.0
    """The share of the run that is over, 0 to 1."""
    elapsed_s: float = 0.0
    """The time that it has trained."""
    steps_per_s: float = 0.0
    loss: float | None = None
    exchanges: int = 0
    alive: int = 1
    """The number of peers that are known to live, itself among them."""
    expected: int = 1
    left_s: float | None = None
    """The time that is left, about; None while that is not known."""
    val_loss: float | None = None
    val_accuracy: float | None = None
    val_rows: int = 0
    """The validation figures are of this number of rows; 0 before the first look."""
    val_step: int = 0
    """The validation figures are of the model after this step."""
    links: Mapping[str, int] = field(default_factory=dict)
    """The number of exchanges with each sender."""
    ages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The ages of what was used of each sender, as the ledger counts them."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """The number of messages that each fault of a plan has bent, by its number."""
    weight: float = 0.0
    """The push-sum weight that it holds; 0 without mass."""
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """It has trained to its end, with this result, and serves the others."""

    KIND: ClassVar[str] = "done"
    result: PeerRecord


@dataclass(frozen=True, slots=True)
class Result:
    """The last word of a worker that ends in order."""

    KIND: ClassVar[str] = "result"
    result: PeerRecord


@dataclass(frozen=True, slots=True)
class Failure:
    """It cannot take part, or go on. `logged`: the whole report lies in its log."""

    KIND: ClassVar[str] = "error"
    message: str
    exit_code: int = 1
    logged: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, as a line for people. `at_s` counts from the start of the process."""

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
    """A process has ended, in these words; `finished` with a result of this `status`."""

    KIND: ClassVar[str] = "exited"
    how: str
    finished: bool
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Restarting:
    """A launcher starts a lost peer again."""

    KIND: ClassVar[str] = "restarting"
    attempt: int
    of: int


Told = Phase | Ready | Waiting | Progress | Done | Result | Failure | Happened | Started | Exited | Restarting
Report = Callable[[Told], None]
"""Takes what one peer tells."""
Watch = Callable[[str, Told], None]
"""Takes a peer's name and what it tells, or what its launcher sees of it; the name is empty for the run as a whole."""

_KINDS: dict[str, type[Told]] = {
    kind.KIND: kind
    for kind in (Phase, Ready, Waiting, Progress, Done, Result, Failure, Happened, Started, Exited, Restarting)
}
_SAID = {"awaited": "for"}
"""Fields that are called otherwise on the line."""


def encoded(told: Told) -> dict[str, Any]:
    """The JSON object of this record."""
    if isinstance(told, Done | Result):
        return {"type": told.KIND, "result": told.result.plain()}
    return {"type": told.KIND} | {_SAID.get(key, key): value for key, value in asdict(told).items()}


def decoded(record: Mapping[str, Any]) -> Told | None:
    """The inverse of `encoded`; None for what is no record of this release. Keys that are not known are passed over."""
    kind = _KINDS.get(str(record.get("type")))
    if kind is None:
        return None
    given = {one.name: _SAID.get(one.name, one.name) for one in fields(kind)}
    try:
        if kind is Done or kind is Result:
            # Here, not above: see the head of this file.
            from gossipdistill.observe.records import PeerRecord

            return kind(PeerRecord.model_validate(record["result"]))
        return kind(**{name: record[key] for name, key in given.items() if key in record})
    except (TypeError, KeyError, ValueError):  # a field that each record of this kind has is missing
        return None
