"""What happened, for people and observers: one shape and one line each, with the reason in words (law 12).

An event is recorded once per change of state, never once per message: a peer that stays suspect causes no more events.
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
    """A checkpoint is torn or of another run; the one before it is tried."""
    FINISHED = "finished"
    WARNING = "warning"
    UNREACHABLE = "unreachable"
    """The peer answers others, but not me."""
    REACHABLE = "reachable"
    REFUTED = "refuted"
    """I was called suspect or dead, and have refuted it."""
    DISCONNECTED = "disconnected"
    """The living peers no longer form one connected graph."""
    CONNECTED = "connected"
    PARKED = "parked"
    WRITTEN_OFF = "written_off"
    CAME_HOME = "came_home"
    LEFT_OUT = "left_out"
    """A rule of the learner ignores this teacher."""
    LISTENED_TO = "listened_to"
    """A rule of the learner uses this teacher again."""
    HANDED_OVER = "handed_over"
    """I leave, and my mass goes to a peer that stays."""
    MUTED = "muted"
    """Too much of what the peer sent was refused: it is ignored for a while."""
    UNMUTED = "unmuted"
    """The mute of a peer has ended."""
    LISTENER_CLOSED = "listener_closed"
    """No more connections are accepted: files or memory are short."""
    LISTENER_OPENED = "listener_opened"
    CUT_OFF = "cut_off"
    """Connections were ended: too many bytes waited to be read on one, or strangers held too many."""
    ADOPTED = "adopted"
    """I join a run in progress and continue from a donor's state."""
    NOT_ADOPTED = "not_adopted"
    DONOR_PASSED_OVER = "donor_passed_over"
    """Nothing that this donor sends is used."""
    DONATES = "donates"
    FAULT = "fault"
    """A fault of the plan began or ended."""
    ENROLLED = "enrolled"
    """The peer has proved that it has the join secret of the run: its key is trusted."""
    UNUSUAL = "unusual"
    """The peer's weights are much larger or smaller than mine."""
    DIVERGED = "diverged"
    """My training has ended with a model that is not finite."""
    COLLAPSED = "collapsed"
    """My training has ended with a model that gives the same answer to all inputs."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened at `at_s` (monotonic seconds of the process that reports it), to `peer` or to this process."""

    kind: EventKind
    at_s: float
    peer: str
    reason: str
    detail: dict[str, str | int | float] = field(default_factory=dict)

    def line(self) -> str:
        """The event as one line of a log, without its time."""
        subject = f"{self.peer}: " if self.peer else ""
        return f"{subject}{self.kind.value.replace('_', ' ')}: {self.reason}"
