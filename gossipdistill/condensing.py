"""Events for a reader: each at first, and for a flood one line now and then that says how many it stands for.

Rules of this file
1. Of one kind about one peer, `events_at_once` pass unchanged, and one more every `events_again_s`.
2. Further ones are held and counted: the newest of them is written once `gap_s` has passed since the last such line,
   with the number of those that it stands for. The gap doubles from `_GAP_S` to `_GAP_MAX_S`, and starts anew after a
   calm.
3. A reason is cut to `_REASON_CHARACTERS_MAX`: others choose the words of some.
So the bytes that a peer can cause to be written about itself, or about one other peer, are bounded at any time; see
`limits`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gossipdistill.events import Event, EventKind
from gossipdistill.limits import Limits

_GAP_S, _GAP_MAX_S = 1.0, 600.0
_REASON_CHARACTERS_MAX = 400


@dataclass(slots=True)
class Stream:
    """The events of one kind about one peer."""

    spent: float = 0.0
    """The part of `events_at_once` that is used up. One event comes back every `events_again_s`."""
    spent_at_s: float = 0.0
    gap_s: float = _GAP_S
    told_s: float = float("-inf")
    held: int = 0
    newest: Event | None = None


@dataclass(slots=True)
class Condensed:
    """Events between the thread that reports them and the one that writes them. A value machine without a lock."""

    limits: Limits
    kept_max: int
    _passed: deque[Event] = field(init=False)
    _streams: dict[tuple[str, EventKind], Stream] = field(default_factory=dict)
    _held: dict[tuple[str, EventKind], Stream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._passed = deque(maxlen=self.kept_max)

    def __bool__(self) -> bool:
        """Whether there is something to write, now or later."""
        return bool(self._passed or self._held)

    def add(self, events: Iterable[Event]) -> None:
        """Add events that have happened."""
        for event in events:
            if len(event.reason) > _REASON_CHARACTERS_MAX:
                event = replace(event, reason=event.reason[: _REASON_CHARACTERS_MAX - 1] + "…")
            key = (event.peer, event.kind)
            stream = self._stream(key)
            if self._passes(stream, event.at_s):
                self._passed.append(event)
                continue
            if not stream.held:
                stream.told_s = max(stream.told_s, event.at_s)
                self._held[key] = stream
            stream.held, stream.newest = stream.held + 1, event

    def drain(self, now: float) -> list[Event]:
        """Return what is to be written at `now`, in the order in which it happened."""
        told = list(self._passed)
        self._passed.clear()
        for key, stream in list(self._held.items()):
            if stream.newest is None or now - stream.told_s < stream.gap_s:
                continue
            told.append(_merged(stream.newest, stream.held))
            stream.held, stream.newest, stream.told_s = 0, None, now
            stream.gap_s = min(2.0 * stream.gap_s, _GAP_MAX_S)
            del self._held[key]
        return told

    def _passes(self, stream: Stream, at_s: float) -> bool:
        limits = self.limits
        left = max(stream.spent - max(at_s - stream.spent_at_s, 0.0) / limits.events_again_s, 0.0)
        stream.spent, stream.spent_at_s = left, at_s
        if stream.held or left + 1.0 > limits.events_at_once:
            return False
        if not left:
            stream.gap_s = _GAP_S
        stream.spent += 1.0
        return True

    def _stream(self, key: tuple[str, EventKind]) -> Stream:
        stream = self._streams.pop(key, None)
        if stream is None:
            # Names are those of members, or of a few strangers (`strangers_max`); and they have a bound of their own.
            while len(self._streams) >= self.limits.peers_max:
                forgotten = next(iter(self._streams))
                del self._streams[forgotten]
                self._held.pop(forgotten, None)
            stream = Stream()
        self._streams[key] = stream  # the least recently used comes first
        return stream


def _merged(newest: Event, count: int) -> Event:
    if count == 1:
        return newest
    reason = f"{newest.reason} ({count} of these since the last one written)"
    return replace(newest, reason=reason, detail={**newest.detail, "times": count})
