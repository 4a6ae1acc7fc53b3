"""Decides which messages to send to the others, and what their answers mean. It does no I/O: time is an argument, and
messages to send are returned as values.

Each other peer is called until it answers. If it is a doctor, ten round trips, one small and one large body follow.
Large bodies are sent in pieces to one peer at a time, beginning with the next in the roster, so that doctors rarely
send to the same peer at once. Every message is answered on the connection on which it came: so an answer shows that
this side can dial the other, and a call shows that the other can dial this side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from gossipdistill.doctor.case import Meeting
from gossipdistill.drivers.channels import Channel
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Confirm, DeliveryClass, Envelope, Message, Piece
from gossipdistill.presence import Ack, Address, Greeting, Ping, Refusal, RefusalCode
from gossipdistill.wire.errors import WireCode, WireError

NOBODY = "doctor.nobody"
"""Greetings are addressed to this name, which no peer has: a worker refuses such a greeting and keeps no state of
it."""
SMALL_BYTES = 1024
PIECE_BYTES = 1_000_000
LARGE_PIECES = 64
LARGE_S_MAX = 10.0
"""A large transfer lasts at most this many seconds; a slower link is judged by what has arrived by then."""
LARGE_TRANSFERS_MAX = 8
"""A large body is sent to at most this many others, the next ones in the roster."""
_WINDOW = 8
_ROUND_TRIPS = 10
_SAY_AGAIN_S = 0.3
_RESEND_S = 2.0
_GIVE_UP_S = 5.0
"""A peer that was met in one direction only is waited for at most this many seconds."""
_FAREWELL_S = 1.0
_WORKER_CALLS = 8


class Stage(IntEnum):
    """The stage of the examination of one other peer."""

    CALLING = 0
    TIMING = 1
    WAITING = 2
    SMALL = 3
    LARGE = 4
    FINISHED = 5


@dataclass(frozen=True, slots=True)
class Send:
    """A message to send: on this side's connection to `to`, or back to `route`, from which a message came."""

    channel: Channel
    envelope: Envelope
    to: str = ""
    route: bytes = b""


@dataclass(slots=True)
class _Other:
    """One other peer, and what is known of it."""

    name: str
    dialled: bool
    awaited: bool
    large_wanted: bool
    stage: Stage = Stage.CALLING
    kind: str = ""
    reached: bool = False
    reaches_me: bool = False
    answered_as: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    wire_version: str = ""
    calls: int = 0
    said_s: float = float("-inf")
    called_s: float = 0.0
    called_wall_s: float = 0.0
    met_s: float = 0.0
    trips_s: list[float] = field(default_factory=list)
    pinged_s: dict[int, float] = field(default_factory=dict)
    clock_ahead_s: float | None = None
    small_s: float | None = None
    small_sent_s: float = 0.0
    began_s: float = 0.0
    progress_s: float = 0.0
    sent: int = 0
    confirmed: set[int] = field(default_factory=set)
    large_bytes: int = 0
    large_s: float | None = None
    done_there: bool = False
    done_known: bool = False
    finished_s: float = 0.0
    calls_from: bytes = b""
    """The route of the connection on which it has called this side's control socket."""

    def meeting(self) -> Meeting:
        """What is known of it, as it is reported."""
        return Meeting(
            self.kind,
            self.reached,
            self.reaches_me,
            self.answered_as,
            self.versions,
            self.wire_version,
            tuple(self.trips_s),
            self.clock_ahead_s,
            self.small_s,
            self.large_bytes,
            self.large_s,
            self.large_wanted,
        )

    def turned_away(self, name: str, wire_version: str, now: float) -> None:
        """Its worker has refused the greeting, so it is there."""
        self.kind, self.answered_as, self.reached = "worker", name, True
        self.met_s = self.met_s or now
        self.wire_version = wire_version
        if self.stage is Stage.CALLING:
            self.trips_s.append(now - self.called_s)
            self.finish(now)

    def arrived(self, key: str, number: int, now: float) -> None:
        """It has acknowledged a piece of a body."""
        if self.stage is Stage.SMALL and key == "small":
            self.small_s = now - self.small_sent_s
            if not self.large_wanted:
                self.finish(now)
                return
            self.stage, self.began_s, self.progress_s, self.sent = Stage.LARGE, now, now, 0
        elif self.stage is Stage.LARGE and key == "large" and number < LARGE_PIECES:
            self.confirmed.add(number)
            self.progress_s = now
            self.large_bytes, self.large_s = len(self.confirmed) * PIECE_BYTES, now - self.began_s
            if len(self.confirmed) == LARGE_PIECES:
                self.finish(now)

    def finish(self, now: float) -> None:
        """Nothing more is asked of it."""
        self.stage, self.finished_s, self.said_s = Stage.FINISHED, now, float("-inf")

    def is_over(self, now: float, listens: bool, others: int) -> bool:
        """Whether nothing more is to be waited for. `listens`: this side can be called. `others`: their number in
        all."""
        if self.kind == "worker":
            both = self.reached and (self.reaches_me or not listens)
            return both or not self.dialled or self.calls >= _WORKER_CALLS
        if self.kind != "doctor":
            return False
        if not self.dialled:
            return self.done_there
        if self.stage is Stage.CALLING:
            return now > self.met_s + _GIVE_UP_S
        if self.stage is not Stage.FINISHED:
            return now > self.met_s + _GIVE_UP_S + LARGE_S_MAX * others
        told = self.done_known or now > self.finished_s + _FAREWELL_S
        nothing_comes = not listens or (not self.reaches_me and now > self.finished_s + _GIVE_UP_S)
        return told and (self.done_there or nothing_comes)


class Meetings:
    """All meetings of one doctor. Peers in `dialled` are called and peers in `undialled` are waited for, both in the
    order of their turns; peers in `answered` are only answered if they call. `facts` go into every greeting, and `boot`
    into the head of every message."""

    def __init__(
        self,
        me: str,
        boot: int,
        address: Address,
        place: int,
        facts: Mapping[str, str],
        dialled: Sequence[str],
        undialled: Sequence[str] = (),
        answered: Sequence[str] = (),
        listens: bool = True,
    ) -> None:
        self.me, self._boot, self._listens = me, Boot(boot), listens
        self._speaker = PeerName(f"doctor.{me}"[:64])
        self._address, self._place, self._facts = address, place, dict(facts)
        self._others = {name: _Other(name, True, True, turn < LARGE_TRANSFERS_MAX) for turn, name in enumerate(dialled)}
        self._others |= {name: _Other(name, False, True, False) for name in undialled}
        self._others |= {name: _Other(name, False, False, False) for name in answered}
        self._body = bytes(PIECE_BYTES)

    @property
    def speaker(self) -> str:
        """The sender's name in a doctor's messages. It is never that of its peer, for which it might be taken."""
        return self._speaker

    # --- what to say ----------------------------------------------------------------------------------------------

    def due(self, now: float, wall_s: float) -> list[Send]:
        """The messages that are due now."""
        out: list[Send] = []
        for other in self._others.values():
            if other.dialled:
                out += self._due_to(other, now, wall_s)
        return out

    def _due_to(self, other: _Other, now: float, wall_s: float) -> list[Send]:
        if other.stage is Stage.WAITING and self._my_turn(other):
            other.stage, other.began_s, other.progress_s, other.sent = Stage.SMALL, now, now, 0
        if other.stage in (Stage.SMALL, Stage.LARGE):
            return self._bodies(other, now) + self._again(other, now, wall_s)
        return self._again(other, now, wall_s)

    def _again(self, other: _Other, now: float, wall_s: float) -> list[Send]:
        """The messages that are repeated at intervals."""
        if now < other.said_s + _SAY_AGAIN_S:
            return []
        if other.stage is Stage.TIMING:
            return self._ping(other, now)
        if other.stage is Stage.FINISHED and other.kind == "doctor":
            other.said_s = now
            return [self._to(other, Ping(0, 0, True))]
        calling = other.stage is Stage.CALLING or (other.kind == "worker" and not self._is_over(other, now))
        if not calling:
            return []
        other.said_s = other.called_s = now
        other.called_wall_s = wall_s
        other.calls += 1
        return [self._to(other, self._greeting(other.name, wall_s, True))]

    def _ping(self, other: _Other, now: float) -> list[Send]:
        other.said_s = now
        number = len(other.pinged_s) + 1
        other.pinged_s[number] = now
        return [self._to(other, Ping(number, 0, False))]

    def _my_turn(self, other: _Other) -> bool:
        return not any(one.stage in (Stage.SMALL, Stage.LARGE) for one in self._others.values() if one is not other)

    def _bodies(self, other: _Other, now: float) -> list[Send]:
        small = other.stage is Stage.SMALL
        if now > other.began_s + LARGE_S_MAX:
            other.finish(now)
            return []
        if now > other.progress_s + _RESEND_S:
            other.progress_s = now
            other.sent = next(n for n in range(LARGE_PIECES) if n not in other.confirmed) if not small else 0
        count, size = (1, SMALL_BYTES) if small else (LARGE_PIECES, PIECE_BYTES)
        numbers = range(other.sent, min(count, len(other.confirmed) + _WINDOW))
        body, key = memoryview(self._body)[:size], "small" if small else "large"
        return [
            self._to(other, Piece(DeliveryClass.STATE, "doctor", key, n, n * size, body), Channel.DATA) for n in numbers
        ]

    def taken(self, send: Send, now: float) -> None:
        """A socket has taken the message. A piece that no socket has taken is returned again by `due`."""
        message = send.envelope.message
        if isinstance(message, Piece) and send.to:
            other = self._others[send.to]
            other.sent = max(other.sent, message.number + 1)
            if message.key == "small" and not other.small_sent_s:
                other.small_sent_s = now  # the time before was spent on connecting

    # --- what is heard --------------------------------------------------------------------------------------------

    def heard(self, channel: Channel, origin: str | bytes, envelope: Envelope, now: float, wall_s: float) -> list[Send]:
        """A message has come on this side's connection to a name, or from the route of a peer that has dialled this
        side."""
        message, dialled_me = envelope.message, isinstance(origin, bytes)
        other = self._who(origin, envelope)
        if other is None:
            return []
        if isinstance(origin, bytes):
            other.reaches_me = True
            other.calls_from = origin if channel is Channel.CONTROL else other.calls_from
        match message:
            case Greeting():
                return self._greeted(other, origin, envelope, message, now, wall_s)
            case Refusal(RefusalCode.WRONG_NAME | RefusalCode.NOT_IN_ROSTER):
                other.turned_away(envelope.sender, self._facts.get("wire", ""), now)
            case Refusal(RefusalCode.WIRE_VERSION, wire_version=theirs):
                other.turned_away(envelope.sender, "unknown" if theirs is None else str(theirs), now)
            case Ping(number, _, done):
                other.done_there |= done
                return self._answer(channel, origin, Ack(number, 0, other.stage is Stage.FINISHED))
            case Ack(number, _, done) if not dialled_me:
                other.done_there |= done
                return self._acknowledged(other, number, now)
            case Piece(_, topic, key, number):
                # On the control socket, whose queue is long enough for all pieces under way.
                if dialled_me and not other.calls_from:
                    return []
                back = other.calls_from if dialled_me else origin
                return self._answer(Channel.CONTROL, back, Confirm(topic, key, number))
            case Confirm(_, key, number) if not dialled_me:
                other.arrived(key, number, now)
        return []

    def heard_other_version(self, origin: str | bytes, error: WireError, now: float) -> list[Send]:
        """A message of another wire version: only its head can be read. A greeting tells the sender this side's
        version."""
        if error.code is not WireCode.VERSION:
            return []
        name = origin if isinstance(origin, str) else error.sender.removeprefix("doctor.")
        other = self._others.get(name)
        if other is None:
            return []
        other.wire_version = str(error.version)
        other.kind = other.kind or ("doctor" if error.sender.startswith("doctor.") else "worker")
        other.answered_as = name
        if isinstance(origin, bytes):
            other.reaches_me = True
        else:
            other.reached = True
        other.met_s = other.met_s or now
        if other.stage is Stage.CALLING and (other.reached or not other.dialled):
            other.finish(now)
        other.done_there = True
        if isinstance(origin, str):
            return []
        return self._answer(Channel.CONTROL, origin, self._greeting(name, 0.0, False))

    def _who(self, origin: str | bytes, envelope: Envelope) -> _Other | None:
        if isinstance(origin, str):
            return self._others.get(origin)
        message = envelope.message
        if isinstance(message, Greeting) and "doctor" in message.fingerprint:
            return self._others.get(message.fingerprint.get("name", ""))
        return self._others.get(envelope.sender) or next(
            (one for one in self._others.values() if f"doctor.{one.name}"[:64] == envelope.sender), None
        )

    def _greeted(
        self, other: _Other, origin: str | bytes, envelope: Envelope, said: Greeting, now: float, wall_s: float
    ) -> list[Send]:
        facts = said.fingerprint
        if "doctor" not in facts:  # a worker that looks for the peer with these ports
            if not other.kind:
                other.kind, other.answered_as = "worker", envelope.sender
            other.met_s = other.met_s or now
            return []
        other.kind, other.met_s = "doctor", other.met_s or now
        other.answered_as = facts.get("name", "")
        other.versions = {key: facts[key] for key in ("gossipdistill", "wire", "torch", "pyzmq") if key in facts}
        other.wire_version = facts.get("wire", "")
        if isinstance(origin, bytes):
            if not said.reply_wanted:
                return []
            return self._answer(Channel.CONTROL, origin, self._greeting(other.name, wall_s, False))
        other.reached = True
        ahead_s = _number(facts.get("clock_s", "")) - (other.called_wall_s + wall_s) / 2
        if other.clock_ahead_s is None and other.calls and math.isfinite(ahead_s):
            other.clock_ahead_s = ahead_s
        if other.stage is not Stage.CALLING:
            return []
        other.stage = Stage.TIMING
        return self._ping(other, now)

    def _acknowledged(self, other: _Other, number: int, now: float) -> list[Send]:
        if number == 0:
            other.done_known = True
            return []
        asked_s = other.pinged_s.get(number)
        if asked_s is None or other.stage is not Stage.TIMING:
            return []
        other.trips_s.append(now - asked_s)
        if len(other.trips_s) < _ROUND_TRIPS:
            return self._ping(other, now)
        other.stage = Stage.WAITING
        return []

    # --- when it is over ------------------------------------------------------------------------------------------

    def missing(self, now: float) -> list[str]:
        """The names of the peers that are still waited for."""
        return [one.name for one in self._others.values() if one.awaited and not self._is_over(one, now)]

    def busy(self, now: float) -> bool:
        """Whether the examination of a peer that was met is not over."""
        return any(one.met_s and not self._is_over(one, now) for one in self._others.values())

    def _is_over(self, other: _Other, now: float) -> bool:
        return other.is_over(now, self._listens, len(self._others))

    def result(self) -> dict[str, Meeting]:
        """The results of the peers that were waited for, in the order in which they were given."""
        return {one.name: one.meeting() for one in self._others.values() if one.awaited}

    def _greeting(self, wanted: str, wall_s: float, reply_wanted: bool) -> Greeting:
        facts = self._facts | {"doctor": "1", "name": self.me, "for": wanted, "clock_s": f"{wall_s:.6f}"}
        return Greeting(self._address, self._place, facts, (), reply_wanted)

    def _to(self, other: _Other, message: Message, channel: Channel = Channel.CONTROL) -> Send:
        return Send(channel, Envelope(self._speaker, self._boot, NOBODY, 0, message), to=other.name)

    def _answer(self, channel: Channel, origin: str | bytes, message: Message) -> list[Send]:
        envelope = Envelope(self._speaker, self._boot, NOBODY, 0, message)
        if isinstance(origin, str):
            return [Send(channel, envelope, to=origin)]
        return [Send(channel, envelope, route=origin)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
