"""Tells why something happened: the events of a run about one peer or one parcel, in order and in words.

Each peer writes its own `events.jsonl`, in seconds of its own clock since its start. A story merges these files. The
order of lines from different peers is therefore only as exact as their starts were simultaneous; in a simulated run it
is exact.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.files import UnusableError, check_shape, decoded, entries, is_there, parse_json, read_bytes
from gossipdistill.observe.recorder import FILE, FILE_BYTES_MAX, OLDER_FILE
from gossipdistill.observe.records import EventRecord
from gossipdistill.printable import printable

TOGETHER_S = 5.0
"""Events of several peers about the same thing within this many seconds are one line."""
_TOLD_MAX = 400
_BYTES_MAX = 16 * FILE_BYTES_MAX
"""A file of events with more bytes is not read: this package does not write such files."""
_PARCEL = re.compile(r"(?P<sender>[^/]+)/(?P<topic>[^/]+)/(?P<number>\d{1,18})")
_SAYS = {
    "joined": "hears {who} for the first time",
    "suspect": "suspects {who}",
    "dead": "holds {who} dead",
    "returned": "has {who} back",
    "left": "knows that {who} has left",
    "refused": "refuses {who}",
    "refused_by": "is refused by {who}",
    "superseded": "is superseded",
    "malformed": "got something from {who} that is no message",
    "quarantined": "refuses a payload of {who}",
    "unusual": "finds the weights of {who} of an unusual size",
    "muted": "does not listen to {who} for a while",
    "unmuted": "listens to {who} again",
    "left_out": "does not listen to {who}",
    "listened_to": "listens to {who} again",
    "unreachable": "does not reach {who} directly",
    "reachable": "reaches {who} directly again",
    "refuted": "was accused, and says that it lives",
    "parked": "keeps a parcel for {who}",
    "written_off": "writes off a parcel for {who}",
    "came_home": "has a parcel for {who} back",
    "handed_over": "leaves its mass to {who}",
    "adopted": "adopts the state of {who}",
    "not_adopted": "adopts no other peer's state",
    "donor_passed_over": "takes no state from {who}",
    "donates": "gives its state to {who}",
    "diverged": "has ended, with nothing that can be used",
    "collapsed": "has ended, with nothing that can be used",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One line of an `events.jsonl`; `by` is the peer that wrote it."""

    at_s: float
    by: str
    kind: str
    peer: str
    reason: str
    detail: Mapping[str, str | int | float] = field(default_factory=dict)

    def line(self) -> str:
        """The event in words."""
        who = self.peer if self.peer and self.peer != self.by else "itself"
        said = _SAYS[self.kind].format(who=who) if self.kind in _SAYS else self.kind.replace("_", " ")
        return f"{self.at_s:9.2f} s  {self.by} {said}: {self.reason}"


class Events(NamedTuple):
    """All events of a run in order of time, the names of the peers that wrote them, and problems with files, in
    words."""

    told: list[Told]
    names: list[str]
    problems: list[str]


def tell(run: Path, what: str) -> list[str]:
    """The story of a peer (`bo`) or of a parcel (`ada/push_sum/17`: sender/topic/number), as lines.

    Raises:
        ConfigError: when the run has no events or no such peer, with the nearest names.
    """
    events, names, problems = read_events(run)
    what = printable(what)
    match = _PARCEL.fullmatch(what)
    if match is not None:
        _known(match["sender"], names, run, what)
        return [*_of_parcel(events, match["sender"], match["topic"], int(match["number"])), *problems]
    _known(what, names, run, what)
    return [*_of_peer(events, what), *problems]


def read_events(run: Path) -> Events:
    """Read the events of all peers. Unreadable files and invalid lines are reported and skipped. An incomplete last
    line comes from a process that was killed.

    Raises:
        ConfigError: when no peer has written any.
    """
    found = entries(run, f"*/{FILE}")
    if not found:
        raise ConfigError("holds no events.jsonl of any peer", file=run)
    events: list[Told] = []
    problems: list[str] = []
    for file in found:
        older = file.with_name(OLDER_FILE)
        for one in [older, file] if is_there(older) else [file]:
            events += _read(one, problems)
    return Events(sorted(events, key=lambda one: one.at_s), [printable(file.parent.name) for file in found], problems)


def _read(file: Path, problems: list[str]) -> Iterable[Told]:
    by, where = printable(file.parent.name), printable(f"{file.parent.name}/{file.name}")
    try:
        lines = read_bytes(file, _BYTES_MAX).split(b"\n")
    except UnusableError as reason:
        problems.append(f"{where} {reason}")
        return
    refused: list[tuple[int, str]] = []
    for number, line in enumerate(lines[:-1], start=1):
        if not line:
            continue
        try:
            yield _told(_event(line), by)
        except UnusableError as problem:
            refused.append((number, str(problem)))
    yield from _half(lines[-1], by)
    if refused:
        number, why = refused[0]
        count = f"{len(refused)} line{'s are' if len(refused) > 1 else ' is'} no event{'s' * (len(refused) > 1)}"
        problems.append(f"{where}: {count}, and passed over; line {number}: {why}")


def _event(line: bytes) -> EventRecord:
    try:
        return EventRecord.model_validate_json(line)  # ten times faster than the reader that says why a line is invalid
    except ValidationError:
        return check_shape(EventRecord, parse_json(decoded(line)))


def _told(entry: EventRecord, by: str) -> Told:
    kind, peer, reason = map(printable, (entry.kind, entry.peer, entry.reason))
    return Told(entry.at_s, by, kind, peer, reason, entry.detail)


def _half(line: bytes, by: str) -> Iterable[Told]:
    """The last line of a killed process, which is an event if only its line end is missing."""
    with contextlib.suppress(UnusableError):
        if line:
            yield _told(_event(line), by)


def _known(name: str, names: Sequence[str], run: Path, what: str) -> None:
    if name not in names:
        raise ConfigError(
            f"no peer {name!r} has written events in {run}; {nearest(name, names)}",
            key="PEER|PARCEL",
            value=what,
            accepted="the name of a peer, or sender/topic/number for a parcel",
        )


def _of_peer(events: Sequence[Told], name: str) -> list[str]:
    concerned = [one for one in events if name in (one.by, one.peer)]
    lines: list[str] = []
    taken: set[int] = set()
    for index, one in enumerate(concerned):
        if index in taken:
            continue
        same = [] if one.by == name else _same(concerned, index, name)
        taken.update(same)
        more = [concerned[k].by for k in same]
        lines.append(one.line() + _and_others(more, concerned[same[-1]].at_s if same else 0.0))
    head = f"{name}: {len(concerned)} events, its own and what others wrote about it"
    shown = lines[:_TOLD_MAX]
    left = [f"... and {len(lines) - _TOLD_MAX} more lines"] if len(lines) > _TOLD_MAX else []
    return [head, *shown, *left, *_ending(concerned, name)]


def _same(concerned: Sequence[Told], first: int, name: str) -> list[int]:
    """The indices of events in which other peers report the same of this peer soon after."""
    one, found = concerned[first], []
    for index in range(first + 1, len(concerned)):
        other = concerned[index]
        if other.at_s > one.at_s + TOGETHER_S:
            break
        if other.by == name and other.kind in ("started", "finished", "diverged", "collapsed"):
            break
        if (other.kind, other.peer) == (one.kind, one.peer) and other.by != name and other.kind not in _PARCEL_KINDS:
            found.append(index)
    return found


_PARCEL_KINDS = ("parked", "written_off", "came_home")


def _and_others(names: Sequence[str], until_s: float) -> str:
    if not names:
        return ""
    who = ", ".join(names) if len(names) <= 3 else f"{len(names)} others"
    return f" (and {who}, by {until_s:.2f} s)"


def _ending(concerned: Sequence[Told], name: str) -> list[str]:
    """The last known state of the peer, according to the peers that reported on it."""
    last: dict[str, Told] = {}
    for one in concerned:
        if one.peer == name and one.by != name and one.kind in ("joined", "suspect", "dead", "returned", "left"):
            last[one.by] = one
    verdicts: dict[str, list[str]] = {}
    for one in last.values():
        there = "there" if one.kind in ("joined", "returned") else one.kind
        verdicts.setdefault(there, []).append(one.by)
    if not verdicts:
        return [f"no peer reported a problem with {name}"]
    parts = [f"{verdict} to {len(by) if len(by) > 3 else ', '.join(by)}" for verdict, by in sorted(verdicts.items())]
    return [f"in the end {name} is " + "; ".join(parts)]


def _of_parcel(events: Sequence[Told], sender: str, topic: str, number: int) -> list[str]:
    mine = [one for one in events if one.by == sender and one.detail.get("topic") == topic]
    numbered = [one for one in mine if one.detail.get("number") == number]
    head = printable(f"{topic} {number} of {sender}")
    if not numbered:
        numbered_ones = (one.detail.get("number") for one in mine)
        known = sorted({other for other in numbered_ones if isinstance(other, int)})
        numbers = f"; there are events about numbers {', '.join(map(str, known[:10]))}" if known else ""
        return [
            f"{head}: nothing was written about it. An absorbed parcel leaves no event: it arrived, or was still "
            f"on its way at the end{numbers}"
        ]
    lines = [head]
    for peer in dict.fromkeys(one.peer for one in numbered):
        around = {"suspect", "dead", "returned", "joined", "left"}
        for one in events:
            about_it = one in numbered and one.peer == peer
            if about_it or (one.by == sender and one.peer == peer and one.kind in around):
                lines.append(one.line())
    endings = {
        "parked": "still kept for the same process to return",
        "written_off": "lost with the process it went to",
        "came_home": "its sender's again",
    }
    ending = next((endings[one.kind] for one in reversed(numbered) if one.kind in endings), "not known")
    return [*lines, f"in the end it is {ending}"]
