"""What the frames are thrown at: codec, assembly and a real `Peer` with its mailbox, driven as an owner drives them.

Besides "nothing is raised" it watches that versions only rise, that a time-out is never due for ever, that one frame
makes no avalanche, and that no table grows without end.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fuzzing.mutator import FINGERPRINT, Frames, Mutator, place_address
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    ArrayLayout,
    Arrival,
    Content,
    DeliveryClass,
    Envelope,
    Mode,
    Parcel,
    Payload,
    Settlement,
    Transmit,
    arrivals_of,
    word_of,
)
from gossipdistill.presence import Address, Contact
from gossipdistill.protocol.members import Identity, Status
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import turn
from gossipdistill.wire.codec import WIRE_VERSION, WireCode, WireError, decode
from gossipdistill.wire.pieces import Assembly

NAMES = ("ada", "bo", "cy", "dee", "eve", "fay")
MY_BOOT = 5_000
LIMITS = Limits(
    piece_bytes_max=64,
    payload_bytes_max=2048,
    assembly_bytes_max=4096,
    push_bytes_max=64,
    slots_per_peer_max=16,
    strangers_max=16,
    peers_max=16,
)
"""Small, so that bounds are reached within thousands of frames and stay reached."""
HEADER_CODES = frozenset(
    {WireCode.PARTS, WireCode.SIZE, WireCode.NOT_MSGPACK, WireCode.HEADER, WireCode.VERSION, WireCode.SENDER}
)
"""What is wrong before the fields of a kind are looked at."""
TRANSMITS_MAX = 512
"""Messages that one frame may cause: a peer heard again is sent the newest of each of its slots."""
_TIMES_S = (0.0, 0.0, 0.0, 0.0, 0.0, 0.001, 0.001, 0.02, 0.02, 0.2)


COUNTED = (Mapping, list, tuple, set, frozenset, deque)
_LEAVES = (str, bytes, int, float, Limits, Envelope, Payload, type(None))


class BrokenError(AssertionError):
    """Something that the target promises did not hold."""


@dataclass(slots=True)
class Target:
    """One process of `ada` among five members, or (`closed` false) in a run that whoever comes first may join."""

    chance: random.Random
    closed: bool = True
    spared: frozenset[str] = frozenset()
    """Members that are honest here: nothing that the mutator says passes for theirs."""
    now: float = 100.0
    counts: Counter[str] = field(default_factory=Counter)
    peer: Peer = field(init=False)
    mailbox: Mailbox = field(init=False)
    assembly: Assembly = field(init=False)
    mutator: Mutator = field(init=False)
    from_spared: list[Arrival] = field(default_factory=list)
    _newest: dict[tuple[str, str, str, DeliveryClass], Version] = field(default_factory=dict)
    _number: int = 0

    def __post_init__(self) -> None:
        me = Identity(PeerName("ada"), Boot(MY_BOOT), place_address(0), 0, FINGERPRINT)
        contacts = [Contact(PeerName(name), place_address(place), place) for place, name in enumerate(NAMES)]
        seeds = [] if self.closed else [Address("10.0.0.9", 7999)]
        self.peer = Peer(me, len(NAMES), contacts if self.closed else (), seeds, self.closed, self.now, LIMITS)
        self.mailbox = Mailbox(limits=LIMITS)
        self.assembly = Assembly(LIMITS)
        self.mutator = Mutator(self.chance, NAMES, MY_BOOT, LIMITS, self.spared)

    def step(self) -> int:
        """One turn: some frames, some time, some of the learner's doings. How many frames it was."""
        messages = self._messages()
        for frames in messages:
            self.receive(frames)
        self.settle_down()
        return len(messages)

    def settle_down(self) -> None:
        """Some time, the learner's doings, and a turn of the network."""
        self._pass_time()
        self._learn()
        self._turn()

    def _messages(self) -> list[Frames]:
        name = self.chance.choice([name for name in NAMES[1:] if name not in self.spared])
        gone = (Status.REFUSED, Status.LEFT, Status.UNHEARD, Status.DEAD, None)
        if self.chance.random() < 0.15 and self.peer.view.status_of(PeerName(name)) in gone:
            return [self.mutator.greet_anew(name)]  # else everybody would soon be refused for the liars' greetings
        return self.mutator.messages()

    def receive(self, frames: Frames, identity: str = "") -> None:
        """As a driver does with what a socket gives it. Without `identity` anybody but the spared may have sent it."""
        self.counts["frames"] += 1
        self.counts["bytes"] += sum(map(len, frames))
        try:
            envelope = decode(frames, LIMITS)
            if envelope.sender in self.spared and envelope.sender != identity:
                raise WireError(WireCode.SENDER, "claims to be another")
        except WireError as error:
            self._refuse("decode", error)
            return
        self.counts["past the header"] += 1
        try:
            whole = self.assembly.feed(envelope)
        except WireError as error:
            self._refuse("assembly", error)
            return
        if whole is None:
            self.counts["a piece of a body"] += 1
            return
        self.counts["received"] += 1
        self.counts[f"kind {word_of(whole.message)}"] += 1
        self.counts["received from the living"] += self.peer.view.is_alive(whole.sender)
        self.peer.receive(whole, self.now)

    def _refuse(self, by: str, error: WireError) -> None:
        self.counts[f"{by}: {error.code}"] += 1
        self.counts["past the header"] += by == "decode" and bool(error.sender) and error.code not in HEADER_CODES
        sender = error.sender if error.sender not in self.spared else ""
        if error.version is not None and sender:
            self.peer.unreadable.other_version(sender, error.boot, error.version, WIRE_VERSION, self.now)
        else:
            self.peer.unreadable.malformed(sender, error.code.value, error.problem, self.now)

    # --- the owner's part ----------------------------------------------------------------------------------------

    def _pass_time(self) -> None:
        self.now += self.chance.choice(_TIMES_S)
        if self.chance.randrange(5000) == 0:
            self.now += 30.0

    def _learn(self) -> None:
        """The learner posts, takes and settles now and then."""
        if self.chance.randrange(6) == 0:
            self.mailbox.post(self._parcel())
        if self.chance.randrange(4) == 0:
            for arrival in arrivals_of(self.mailbox.take()):
                if arrival.delivery is not DeliveryClass.STATE:
                    verdict = self.chance.random() < 0.7
                    settlement = Settlement(
                        arrival.sender, arrival.topic, arrival.version, verdict, "" if verdict else "no"
                    )
                    self.mailbox.settle([settlement])

    def _parcel(self) -> Parcel:
        self._number += 1
        size = self.chance.choice((4, 40, 400))
        payload = Payload((ArrayLayout("w", (size,), "int8", size),), bytes(size))
        to = (PeerName(self.chance.choice(NAMES[1:])),)
        delivery = self.chance.choice(list(DeliveryClass))
        if delivery is DeliveryClass.STATE:
            return Parcel(to, Content("weights", payload, self._number, self._number), self.chance.choice(list(Mode)))
        weight = 0.25 if delivery is DeliveryClass.MASS else 0.0
        return Parcel(to, Content(delivery.value, payload, self._number, self._number, "", delivery, weight))

    def _turn(self) -> None:
        self.counts["time-outs"] += self.now >= self.peer.next_timeout()
        sent = self.counts["transmits"]
        done = turn(self.peer, self.mailbox, self.now, self._send)
        if self.peer.next_timeout() <= self.now:
            raise BrokenError(f"a time-out is due for ever: {self.peer.next_timeout()} at {self.now}")
        if self.counts["transmits"] - sent > TRANSMITS_MAX:
            raise BrokenError(f"{self.counts['transmits'] - sent} messages caused by one turn")
        self.counts["arrivals"] += len(done.received)
        for arrival in arrivals_of(done.received):
            self._look_at(arrival)
        self.counts["events"] += len(done.events)
        for event in done.events:
            if not event.reason.isprintable():
                raise BrokenError(f"an event would write on a terminal: {event}")

    def _send(self, transmit: Transmit) -> None:
        self.counts["transmits"] += 1
        if self.chance.randrange(10) == 0:
            self.peer.not_sent(transmit, self.now)
        else:
            self.mutator.overhear(transmit.envelope)

    def _look_at(self, arrival: Arrival) -> None:
        line = (arrival.sender, arrival.topic, arrival.key, arrival.delivery)
        if arrival.version <= self._newest.get(line, Version(0, 0)):
            raise BrokenError(f"{line} went from {self._newest[line]} back to {arrival.version}")
        self._newest[line] = arrival.version
        if arrival.sender in self.spared:
            self.from_spared.append(arrival)

    # --- looking -------------------------------------------------------------------------------------------------

    def tables(self) -> Iterator[Any]:
        """Whatever the peer, the mailbox and the assembly hold, however deep, each thing once."""
        seen: set[int] = set()
        waiting: list[Any] = [self.peer, self.mailbox, self.assembly]
        while waiting:
            thing = waiting.pop()
            if id(thing) in seen or isinstance(thing, _LEAVES):
                continue
            seen.add(id(thing))
            yield thing
            if isinstance(thing, Mapping):
                waiting += thing.values()
            elif isinstance(thing, COUNTED):
                waiting += thing
            else:
                waiting += _attributes(thing)

    def entries(self) -> int:
        """Entries of all tables among these."""
        return sum(len(thing) for thing in self.tables() if isinstance(thing, COUNTED))


def _attributes(thing: Any) -> Iterable[Any]:
    if not type(thing).__module__.startswith("gossipdistill"):
        return ()
    slots = [name for kind in type(thing).__mro__ for name in _listed(getattr(kind, "__slots__", ()))]
    return [getattr(thing, name, None) for name in {**dict.fromkeys(slots), **getattr(thing, "__dict__", {})}]


def _listed(slots: str | Iterable[str]) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)
