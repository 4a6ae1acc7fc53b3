"""A network in memory, for scenes of the protocol: a virtual clock, and loss, delay, reordering and partitions by seed.

Every message goes through the wire format, so a scene also shows that what is said can be encoded and understood.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    ArrayLayout,
    Arrival,
    Carrier,
    Content,
    DeliveryClass,
    Envelope,
    Message,
    Mode,
    Neighbourhood,
    Parcel,
    Payload,
    Received,
    Settlement,
    Slot,
    Transmit,
    arrivals_of,
)
from gossipdistill.presence import Address, Contact
from gossipdistill.protocol.directory import Rotation
from gossipdistill.protocol.members import Identity, Member
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import drain, feed
from gossipdistill.wire.crossing import cross

FINGERPRINT = {"run": "first-light", "task": "digits"}


def address_of(place: int) -> Address:
    return Address("10.0.0.1", 7400 + 2 * place)


def payload(value: int, size: int = 8) -> Payload:
    return Payload((ArrayLayout("x", (size // 4,), "raw", size),), value.to_bytes(4, "big") * (size // 4))


def living(boot: int = 1) -> dict[PeerName, Member]:
    """Rows of others with whom there is business, all of this boot."""
    names = map(PeerName, ("ada", "bo", "cy", "dee"))
    return {name: Member(name, address_of(0), 0, boot=boot) for name in names}


def value_of(carrier: Carrier) -> int:
    return int.from_bytes(bytes(carrier.payload.body[:4]), "big")


class AlwaysMyself(Rotation):
    """The first member never has its turn to probe anybody else."""

    def next(self, names: Sequence[PeerName]) -> PeerName:
        return names[0]


@dataclass
class Process:
    """One process: its protocol, its mailbox, and what its learner and its observer have seen."""

    peer: Peer
    mailbox: Mailbox
    events: list[Event] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    freed: list[Slot] = field(default_factory=list)
    view: Neighbourhood = field(default_factory=Neighbourhood)
    """The newest snapshot that its learner was given."""
    backlog: list[Envelope] = field(default_factory=list)
    learning: bool = True
    stopped: bool = False

    def kinds(self, about: str) -> list[EventKind]:
        """The changes of state of one other peer, in order."""
        return [event.kind for event in self.events if event.peer == about]

    def values(self, sender: str) -> list[int]:
        return [value_of(arrival) for arrival in arrivals_of(self.received) if arrival.sender == sender]


@dataclass
class Sent:
    """One message on the network, for assertions about who says what, and how often."""

    at_s: float
    sender: str
    to: str
    message: Message


class World:
    """All processes and the network between them. Names get places and addresses in the order in which they join."""

    def __init__(
        self,
        *names: str,
        seed: int = 0,
        closed: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        mute: Sequence[str] = (),
        keyed: bool = False,
    ) -> None:
        """With `keyed` nobody speaks under another's name, as on sockets with keys."""
        self.now = 100.0
        self.limits = limits
        self.closed = closed
        self.keyed = keyed
        self.names = [PeerName(name) for name in names]
        self.random = random.Random(seed)
        self.loss = 0.0
        self.duplication = 0.0
        self.delay_s = (0.001, 0.001)
        self.cut: set[tuple[str, str]] = set()
        self.mute: set[PeerName] = {PeerName(name) for name in mute}
        """Who listens nowhere: it is answered on the connections that it has opened."""
        self.dialled: set[tuple[str, str]] = set()
        self.processes: dict[Address, Process] = {}
        self.log: list[Sent] = []
        self._flying: list[tuple[float, int, Address, Envelope]] = []
        self._sequence = 0
        self._boots = 0
        if closed:
            for name in names:
                self.start(name, listens=name not in self.mute)

    # --- processes -----------------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        place: int | None = None,
        address: Address | None = None,
        fingerprint: Mapping[str, str] = FINGERPRINT,
        seeds: Sequence[Address] = (),
        roster: Sequence[str] | None = None,
        boot: int | None = None,
        expected: int | None = None,
        listens: bool = True,
        features: Sequence[str] = (),
    ) -> Process:
        """Start a process, over whatever ran at its address."""
        known = [PeerName(other) for other in (roster if roster is not None else self.names)]
        place = known.index(PeerName(name)) if place is None else place
        address = address if address is not None else address_of(place)
        told = address if listens else Address("", 0)
        self._boots += 1000
        me = Identity(PeerName(name), Boot(boot or self._boots), told, place, fingerprint, tuple(features))
        contacts = [
            Contact(other, Address("", 0) if other in self.mute else address_of(index), index)
            for index, other in enumerate(known)
        ]
        peer = Peer(
            me,
            expected if expected is not None else len(self.names),
            contacts if self.closed else (),
            seeds,
            self.closed,
            self.now,
            self.limits,
        )
        if self.keyed:
            peer.key_distribution.prove_senders()
        made = self.processes[address] = Process(peer, Mailbox(limits=self.limits))
        return made

    def kill(self, name: str) -> None:
        for address in [address for address, process in self.processes.items() if process.peer.me.name == name]:
            del self.processes[address]

    def leave(self, name: str) -> None:
        self[name].peer.membership.leave("finished")
        self._pump(self[name])
        self.kill(name)

    def stop(self, name: str) -> None:
        """As SIGSTOP does: nothing is read, nothing is due."""
        self[name].stopped = True

    def resume(self, name: str, clock_first: bool) -> None:
        """As SIGCONT does; the loop may look at its clock or at its sockets first."""
        process = self[name]
        process.stopped = False
        for act in (self._tick, self._read) if clock_first else (self._read, self._tick):
            act(process)

    def __getitem__(self, name: str) -> Process:
        return next(process for process in self.processes.values() if process.peer.me.name == name)

    # --- the network ---------------------------------------------------------------------------------------------

    def cut_off(self, *group: str) -> None:
        """No message between this group and the others, either way."""
        inside = set(group)
        others = {process.peer.me.name for process in self.processes.values()} - inside
        self.cut |= {(a, b) for a in inside for b in others} | {(b, a) for a in inside for b in others}

    def inject(self, to: str, envelope: Envelope) -> None:
        """Hand a message to a process, whoever says so."""
        process = self[to]
        process.peer.receive(_over_the_wire(envelope), self.now)
        self._pump(process)

    def run(self, for_s: float) -> None:
        until_s = self.now + for_s
        while True:
            due = {id(p): p.peer.next_timeout() for p in self.processes.values() if not p.stopped}
            next_s = min([*due.values(), *(flight[0] for flight in self._flying[:1])], default=float("inf"))
            if next_s > until_s:
                break
            self.now = max(self.now, next_s)
            while self._flying and self._flying[0][0] <= self.now:
                self._land(*heapq.heappop(self._flying)[2:])
            for process in list(self.processes.values()):
                if not process.stopped and due.get(id(process), self.now + 1) <= self.now:
                    self._tick(process)
        self.now = until_s

    def _tick(self, process: Process) -> None:
        # As the driver does, `next_timeout` is asked first.
        if self.now >= process.peer.next_timeout():
            process.peer.handle_timeout(self.now)
            assert process.peer.next_timeout() > self.now, "a time-out that is always due would spin"
        self._pump(process)

    def _read(self, process: Process) -> None:
        backlog, process.backlog = process.backlog, []
        for envelope in backlog:
            process.peer.receive(envelope, self.now)
            self._pump(process)

    def _pump(self, process: Process) -> None:
        """A turn without its time-outs, and another one when the learner has taken and absorbed what came."""
        feed(process.peer, process.mailbox, self.now)
        done = drain(process.peer, process.mailbox, self.now, self._fly)
        process.events += done.events
        process.view = done.neighbourhood or process.view
        process.freed += done.freed
        process.received += done.received
        if process.learning and done.received:
            process.mailbox.take()
            mass = [
                one for one in done.received if isinstance(one, Arrival) and one.delivery is not DeliveryClass.STATE
            ]
            process.mailbox.settle([Settlement(one.sender, one.topic, one.version, absorbed=True) for one in mass])
            self._pump(process)

    def _fly(self, transmit: Transmit) -> None:
        envelope = transmit.envelope
        address = self._way(transmit)
        target = self.processes.get(address)
        to = target.peer.me.name if target is not None else envelope.to
        self.log.append(Sent(self.now, envelope.sender, to, envelope.message))
        if (envelope.sender, to) in self.cut or self.random.random() < self.loss:
            return
        for _ in range(1 + (self.random.random() < self.duplication)):
            self._sequence += 1
            at_s = self.now + self.random.uniform(*self.delay_s)
            heapq.heappush(self._flying, (at_s, self._sequence, address, envelope))

    def _way(self, transmit: Transmit) -> Address:
        """Where a message goes. One that listens nowhere is reached on a connection that it has opened itself."""
        sender, to = transmit.envelope.sender, transmit.envelope.to
        if transmit.address.port:
            self.dialled.add((sender, to))
            return transmit.address
        assert sender not in self.mute, f"{sender} has no way to {to}"
        places = [a for a, p in self.processes.items() if p.peer.me.name == to and (to, sender) in self.dialled]
        return places[0] if places else Address("nowhere", 1)

    def _land(self, address: Address, envelope: Envelope) -> None:
        process = self.processes.get(address)
        if process is None or (envelope.sender, process.peer.me.name) in self.cut:
            return
        received = _over_the_wire(envelope)
        if process.stopped:
            process.backlog.append(received)
            return
        process.peer.receive(received, self.now)
        self._pump(process)

    # --- learners ------------------------------------------------------------------------------------------------

    def publish(
        self, sender: str, to: str, value: int, mode: Mode = Mode.PUSH, topic: str = "x", size: int = 8
    ) -> None:
        self._post(sender, Parcel((PeerName(to),), Content(topic, payload(value, size), value, value), mode))

    def consign(self, sender: str, to: str, value: int, weight: float, stream: bool = False) -> None:
        """The learner of `sender` posts mass, or one frame of a stream, for `to`."""
        delivery = DeliveryClass.STREAM if stream else DeliveryClass.MASS
        self._post(sender, Parcel((PeerName(to),), Content("m", payload(value), value, value, "", delivery, weight)))

    def _post(self, sender: str, parcel: Parcel) -> None:
        assert self[sender].mailbox.post(parcel), "the link is busy"
        self._pump(self[sender])

    def report_progress(self, name: str, step: int, done: bool) -> None:
        self[name].mailbox.report_progress(step, done)
        self._pump(self[name])

    def take(self, name: str, sender: str, topic: str = "x") -> None:
        """The learner of `name` empties one slot of its inbox."""
        self[name].peer.states.receiver.taken(Slot(PeerName(sender), topic, ""), self.now)
        self._pump(self[name])

    def settle(self, name: str, absorbed: bool, reason: str = "") -> None:
        """The learner of `name` gives its verdict on what came last."""
        process = self[name]
        last = next(one for one in reversed(process.received) if isinstance(one, Arrival))
        process.mailbox.settle([Settlement(last.sender, last.topic, last.version, absorbed, reason)])
        self._pump(process)

    # --- looking -------------------------------------------------------------------------------------------------

    def said(self, sender: str, to: str, kind: type) -> list[Sent]:
        return [sent for sent in self.log if (sent.sender, sent.to) == (sender, to) and isinstance(sent.message, kind)]

    def all_alive(self) -> bool:
        """Whether everybody believes everybody alive, and was met."""
        names = [process.peer.me.name for process in self.processes.values()]
        return all(
            p.peer.view.is_alive(name) for p in self.processes.values() for name in names if name != p.peer.me.name
        )


def _over_the_wire(envelope: Envelope) -> Envelope:
    return cross(envelope)[0]
