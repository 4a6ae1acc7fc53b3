"""What happened, for people and observers: one shape, one line each, with the reason in words (law 12).

An event is recorded once per change of state, never once per message: a peer that stays suspect says nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class EventKind(StrEnum):
    """Append only: the words are written to `events.jsonl`."""

    JOINED = "joined"
    SUSPECT = "suspect"
    DEAD = "dead"
    RETURNED = "returned"
    LEFT = "left"
    REFUSED = "refused"
    REFUSED_BY = "refused_by"
    SUPERSEDED = "superseded"
    MALFORMED = "malformed"
    QUARANTINED = "quarantined"
    NO_EXCHANGE = "no_exchange"
    EXCHANGING = "exchanging"
    VIEW = "view"
    STARTED = "started"
    RESUMED = "resumed"
    CHECKPOINT_REFUSED = "checkpoint_refused"
    """A checkpoint is torn or of another run; the one before it is looked at."""
    FINISHED = "finished"
    WARNING = "warning"
    UNREACHABLE = "unreachable"
    """Alive through others, but not on the direct way."""
    REACHABLE = "reachable"
    REFUTED = "refuted"
    """I was called suspect or dead, and have said that I live."""
    DISCONNECTED = "disconnected"
    """The living no longer form one connected graph."""
    CONNECTED = "connected"
    PARKED = "parked"
    WRITTEN_OFF = "written_off"
    CAME_HOME = "came_home"
    LEFT_OUT = "left_out"
    """A rule has it that this teacher is not listened to."""
    LISTENED_TO = "listened_to"
    """And that it is again."""
    HANDED_OVER = "handed_over"
    """I leave, and my mass goes to somebody who stays."""
    MUTED = "muted"
    """Too much of what it sent was refused: it is not listened to for a while."""
    UNMUTED = "unmuted"
    """And that it is again."""
    LISTENER_CLOSED = "listener_closed"
    """No more connections are taken in: files or memory are short."""
    LISTENER_OPENED = "listener_opened"
    CUT_OFF = "cut_off"
    """Connections were ended: more of one waited to be read than may, or strangers held too many."""
    ADOPTED = "adopted"
    """I join a run in progress, and go on from a donor's state."""
    NOT_ADOPTED = "not_adopted"
    DONOR_PASSED_OVER = "donor_passed_over"
    """Nothing of what this donor gives is used."""
    DONATES = "donates"
    FAULT = "fault"
    """A fault of the plan began or ended."""
    ENROLLED = "enrolled"
    """It has shown that it has the join secret of the run: its key is trusted."""
    UNUSUAL = "unusual"
    """Its weights are much larger or smaller than mine."""
    DIVERGED = "diverged"
    """My training has ended with a model that is not finite."""
    COLLAPSED = "collapsed"
    """My training has ended with a model that answers the same to all."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened at `at_s` (monotonic seconds of the process that says so), concerning `peer` or oneself."""

    kind: EventKind
    at_s: float
    peer: str
    reason: str
    detail: dict[str, str | int | float] = field(default_factory=dict)

    def line(self) -> str:
        """The event as one line of a log, without its time."""
        subject = f"{self.peer}: " if self.peer else ""
        return f"{subject}{self.kind.value.replace('_', ' ')}: {self.reason}"
