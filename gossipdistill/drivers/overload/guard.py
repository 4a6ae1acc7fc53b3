"""Guards files and memory: closes the listeners before they are short, and ends connections with too many unread bytes.

Rules of this file
1. Existing connections continue when the listeners close: the kernel drops new connection requests.
2. A connection with more waiting bytes than any honest one has is ended, or paused (see `UnreadLedger`). When all
   together hold too much, those on which no member has spoken are ended first, and the others paused. When memory is
   short for another reason, all that others have opened are ended. An honest peer connects again, and my own
   connections serve both ways meanwhile.
3. When files are short, or strangers hold too many, half of the connections on which no member has spoken are ended,
   the oldest first of the addresses with the most. So a peer that holds many keeps no other out, and one that has just
   connected has time to speak.
4. `Knocks` decides when to check. Only Linux gives these values; on other systems nothing is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.event_sink import EventSink
from gossipdistill.drivers.overload.buffers import Buffers, Freed
from gossipdistill.drivers.overload.gate import Gate, Usage
from gossipdistill.drivers.overload.resources import Connection, Connections, Resources, bytes_received, cut, drop_syns
from gossipdistill.drivers.overload.unread_bytes import Backlog, Measure, UnreadLedger
from gossipdistill.events import EventKind
from gossipdistill.presence import Address
from gossipdistill.protocol.peer import Peer

_LOOKED_AT_MAX = 256
"""The bytes of at most this many connections are counted in one check; more connections take turns."""
_SAID_EVERY_S = 10.0
"""That the listeners closed, or that connections were ended because files are short, is reported at most once in this
time."""
FarEnds = Mapping[tuple[str, int], Channel]


def first_to_go(silent: Sequence[Connection]) -> list[Connection]:
    """The half of these connections (rounded up) that is ended when files are short. The kernel numbers sockets in the
    order of creation, so low inodes are the oldest, nearly so on several processors."""
    seen: Counter[str] = Counter()
    ranked = []
    for one in sorted(silent, key=lambda one: -one.inode):
        ranked.append((seen[one.peer[0]], one))  # the number of newer ones from its address
        seen[one.peer[0]] += 1
    ranked.sort(key=lambda entry: entry[0])
    return [one for _, one in ranked[len(ranked) // 2 :]]


@dataclass(slots=True)
class Guard:
    """The guard of one driver. Being cut off is an offence of a peer that keys identify: `is_proven`."""

    peer: Peer
    events: EventSink
    unread_bytes: UnreadLedger
    buffers: Buffers
    """The memory of bodies that arrive in pieces, which is no backlog."""
    resources: Resources
    is_proven: bool
    gate: Gate = field(init=False)
    _ports: set[int] = field(default_factory=set)
    _looked_s: float = float("-inf")
    _closed_s: float = float("-inf")
    _closing_said: bool = False
    _ended_silent_s: float = float("-inf")
    _level: int = 0
    """The number of bytes that waited at the last check."""
    _connections: Connections = field(default_factory=Connections)
    _backlog: Backlog = field(default_factory=Backlog)
    _turn: int = 0
    _resident_bytes_max: int | None = None
    _freed: Freed = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.peer.limits)
        self._freed = Freed(self.peer.limits.freed_bytes_max)
        memory = self.resources.memory_bytes()
        self._resident_bytes_max = None if memory is None else int(self.peer.limits.resident_share_max * memory)

    def begin(self, at: Address) -> None:
        """Start; others connect to `at`, the control port, and to the next port."""
        self._ports = {at.port, at.data_port}
        self.unread_bytes.is_watched = True

    def end(self) -> None:
        """Stop checking."""
        self.unread_bytes.is_watched = False

    def next_look_s(self) -> float:
        """Seconds from the last check until the next: before more can have arrived than may wait."""
        limits = self.peer.limits
        room_s = (limits.queued_bytes_max - self._level) / limits.data_bytes_per_s_max
        return min(max(room_s, limits.guard_interval_min_s), limits.guard_interval_s)

    def look(self, is_behind: bool, dialled: FarEnds, now: float) -> None:
        """Check, and act on the result. `is_behind`: there is more to read than was read. `dialled`: the far ends of my
        own connections."""
        since_s, self._looked_s = now - self._looked_s, now
        usage = self._usage(is_behind)
        self._freed.look(self._level)
        change = self.gate.look(usage)
        short = self.gate.sheds(usage) or self.gate.is_behind(usage)
        if change is not None or short or since_s >= self.next_look_s() / 2:
            self._look_at_connections(usage, change is not None, dialled, now)
        if change is not None:
            self._say_change(*change, now)

    def _say_change(self, kind: EventKind, reason: str, now: float) -> None:
        """Report a change, but not too often: under a flood the gate closes and opens several times a second."""
        if kind is EventKind.LISTENER_CLOSED:
            if now - self._closed_s < _SAID_EVERY_S:
                return
            self._closed_s, self._closing_said = now, True
        elif not self._closing_said:
            return
        else:
            self._closing_said = False
        self.events.tell(kind, reason)

    def _usage(self, is_behind: bool) -> Usage:
        found = self.resources
        resident = found.resident_bytes()
        of_messages = None if resident is None else resident - self.buffers.mapped_bytes()
        self._level = self._backlog.look(of_messages, is_behind)
        return Usage(found.open_files(), found.files_max(), resident, self._resident_bytes_max, self._level)

    def _look_at_connections(self, usage: Usage, changed: bool, dialled: FarEnds, now: float) -> None:
        theirs, mine = list[tuple[Connection, bool]](), list[tuple[Connection, bool]]()
        for one in self._connections.all():
            if one.listens:
                if changed and one.port in self._ports:
                    self._shut(one)
            elif one.port in self._ports:
                theirs.append((one, one.port == max(self._ports)))
            elif one.peer in dialled:
                mine.append((one, dialled[one.peer] is Channel.DATA))
        cut_off = self._look_at_bytes(theirs + mine, now)
        self.unread_bytes.keep({one.fd for one, _ in (*theirs, *mine)})
        others = [one for one, _ in theirs]
        silent = [one for one in others if not self.unread_bytes.has_spoken(one.fd, one.inode)]
        if self.gate.lacks_files or len(silent) > self.peer.limits.silent_connections_max:
            why = "files are short" if self.gate.lacks_files else "strangers hold too many connections"
            self._end_silent(first_to_go(silent), len(silent), why, now)
        if self.gate.is_behind(usage):
            self._catch_up(theirs + mine, silent, now)
        if self.gate.sheds(usage) and not cut_off and others:
            ended = sum(map(cut, others))
            self.events.tell(EventKind.CUT_OFF, f"memory is short: {ended} connections of others are ended")

    def _catch_up(self, all_of_them: list[tuple[Connection, bool]], silent: list[Connection], now: float) -> None:
        """Too much waits: pause the data connections of all until it is less."""
        self._end_silent(silent, len(silent), "too much waits to be read", now)
        for one, is_data in all_of_them:
            is_open = one.fd in self.unread_bytes.by_fd and not self.unread_bytes.is_paused(one.fd)
            if is_data and is_open and drop_syns(one, True):
                self.unread_bytes.pause(one.fd, now)

    def _end_silent(self, chosen: list[Connection], of: int, why: str, now: float) -> None:
        ended = sum(map(cut, chosen))
        if ended and now - self._ended_silent_s >= _SAID_EVERY_S:
            self._ended_silent_s = now
            self.events.tell(
                EventKind.CUT_OFF, f"{why}: {ended} are ended of {of} connections on which no member spoke"
            )

    def _look_at_bytes(self, all_of_them: list[tuple[Connection, bool]], now: float) -> int:
        """Pause or end connections with too many waiting bytes. Returns the number that were ended."""
        count = len(all_of_them)
        begin = self._turn % count if count > _LOOKED_AT_MAX else 0
        self._turn = begin + _LOOKED_AT_MAX
        ended = 0
        for one, is_data in (all_of_them + all_of_them[:begin])[begin : begin + min(count, _LOOKED_AT_MAX)]:
            came = bytes_received(one)
            if came is None:
                continue
            waits = self.unread_bytes.look(one.fd, one.inode, came, now)
            match self.unread_bytes.judge(one.fd, waits, is_data, now):
                case Measure.PAUSE:
                    drop_syns(one, True)
                case Measure.GO_ON:
                    drop_syns(one, False)
                case Measure.CUT if cut(one):
                    ended += 1
                    self._hold_against(one, waits, now)
        return ended

    def _hold_against(self, one: Connection, waits: int, now: float) -> None:
        sender = self.unread_bytes.sender_of(one.fd)
        problem = f"{waits / 1e6:.0f} MB that came from {one.peer[0]}:{one.peer[1]} wait, more than may: cut off"
        self.events.tell(EventKind.CUT_OFF, problem, sender)
        self.peer.unreadable.too_much(sender, "hoard", problem, now, proven=self.is_proven)

    def _shut(self, listener: Connection) -> None:
        """Close or open a listener, as the gate is."""
        drop_syns(listener, deaf=not self.gate.is_open)
