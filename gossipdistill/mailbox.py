"""The only place where the training thread and the network thread of a peer meet.

Rules of this file
1. Pure: the lock and the wake-up come in as arguments (drivers/network_thread.py supplies real ones; tests need none).
2. Neither side ever waits for the other: every call copies a few references under the lock and returns.
3. States: newest wins, out and in: one parcel per (recipient, topic, key) and one arrival per (sender, topic, key).
4. States of one sender take at most `waiting_bytes_max` of memory: its oldest are dropped for its newest.
5. Mass and streams: nothing is replaced. A link with as many unsettled parcels as allowed is *busy*, and `post` says so
   at once; every arrival stays until it is taken, and is to be settled.
6. Mass has one *lane*, which is its topic. To a lossy peer (protocol/resending.py) it has `lanes_max`, each a topic of
   its own, so that a lost parcel delays nothing but itself. A settlement names the topic by which the arrival came.

An unlocked slot lost 0.1 % of its posts in a measurement, hence the lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from gossipdistill.condensing import Condensed
from gossipdistill.events import Event
from gossipdistill.ids import PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    Complaint,
    DeliveryClass,
    Intake,
    Neighbourhood,
    Parcel,
    Received,
    Settlement,
    Slot,
)

_STATE = 0


class Collected(NamedTuple):
    """What the training thread left since the last call: parcels by recipient slot, oldest first; the inbox slots of
    states that it has emptied; its settlements; and its complaints about senders whose payloads it has refused."""

    parcels: list[tuple[Slot, Parcel]]
    taken: list[Slot]
    settlements: list[Settlement]
    complaints: list[Complaint]


class LinkRoom:
    """How many more parcels of mass and streams each link may take. A posted parcel is unsettled until it is freed.

    `lock` is the mailbox's. `lossy` are the peers to which mass has several lanes, as last published by the network.
    """

    def __init__(self, lock: AbstractContextManager[object], limits: Limits) -> None:
        self._lock, self._limits = lock, limits
        self.lossy: frozenset[PeerName] = frozenset()
        self._seen_lossy: frozenset[PeerName] = frozenset()
        """The value of `lossy` at the last call of `busy`: what `busy` calls free stays free until it is asked
        again."""
        self._in_flight: Counter[Slot] = Counter()
        self._in_flight_max = {
            DeliveryClass.MASS: limits.in_flight_mass_max,
            DeliveryClass.STREAM: limits.in_flight_stream_max,
        }
        self._bulky: dict[str, bool] = {}
        """For each topic, this says whether its last parcel was too large for more than one lane."""
        self._weights: dict[Slot, float] = {}
        """The push-sum weight of each unsettled parcel."""

    def reserve(self, peer: PeerName, topic: str, parcel: Parcel) -> Slot | None:
        """Return the link and lane by which this parcel goes; None while all are busy. The caller holds the lock."""
        room = self._in_flight_max[parcel.delivery]
        slots = [Slot(peer, lane, parcel.key) for lane in self._lanes(peer, topic, parcel.delivery)]
        slot = next((slot for slot in slots if self._in_flight[slot] < room), None)
        if slot is not None:
            self._in_flight[slot] += 1
            self._weights[slot] = parcel.weight
            self._bulky[topic] = parcel.payload.nbytes > self._limits.lane_bytes_max
        return slot

    def busy(self, topic: str, delivery: DeliveryClass) -> frozenset[PeerName]:
        """The peers to which nothing more of this topic may be posted until a parcel is settled."""
        with self._lock:
            self._seen_lossy = frozenset() if self._bulky.get(topic) else self.lossy
            room = self._in_flight_max[delivery]
            full = {(slot.peer, slot.topic) for slot, n in self._in_flight.items() if n >= room}
            peers = {peer for peer, _ in full}
            return frozenset(p for p in peers if full.issuperset((p, one) for one in self._lanes(p, topic, delivery)))

    def under_way(self) -> dict[PeerName, float]:
        """The weight of the unsettled mass in flight to each peer."""
        weights: dict[PeerName, float] = {}
        with self._lock:
            for slot, weight in self._weights.items():
                weights[slot.peer] = weights.get(slot.peer, 0.0) + weight
        return weights

    def free(self, slots: Iterable[Slot]) -> None:
        """Note that a parcel of each of these links is settled, returned or written off: there is room for the next."""
        with self._lock:
            for slot in slots:
                self._in_flight[slot] -= 1
                if not self._in_flight[slot]:
                    del self._in_flight[slot], self._weights[slot]

    def in_flight(self) -> dict[Slot, int]:
        """The number of unsettled parcels of mass and streams posted on each link, for observers."""
        with self._lock:
            return dict(self._in_flight)

    def _lanes(self, peer: PeerName, topic: str, delivery: DeliveryClass) -> list[str]:
        """The topics by which a parcel of this topic may go to this peer."""
        many = delivery is DeliveryClass.MASS and peer in self._seen_lossy
        return [topic, *(f"{topic}.{number}" for number in range(2, self._limits.lanes_max + 1) if many)]


class Mailbox:
    """Outbox, inbox, the current neighbourhood and the events of the network, between two threads.

    `wake` is called, outside the lock, when the network has something to collect.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object] | None = None,
        wake: Callable[[], None] | None = None,
        events_kept_max: int = 4096,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._lock = lock if lock is not None else nullcontext()
        self._wake = wake if wake is not None else lambda: None
        self._outbox: dict[Slot, Parcel] = {}
        self._consigned: list[tuple[Slot, Parcel]] = []
        self.room = LinkRoom(self._lock, limits)
        self._limits = limits
        self._settlements: list[Settlement] = []
        self._complaints: list[Complaint] = []
        self._inbox: dict[tuple[Slot, int], Received] = {}
        self._waiting_bytes: Counter[PeerName] = Counter()
        """The memory in bytes of the states in the inbox, by sender."""
        self.intake = Intake()
        """The owner of the learner sets this; posted topics and sizes are added automatically."""
        self._delivered = 0
        self._taken: set[Slot] = set()
        self._events = Condensed(limits, events_kept_max)
        self._events_told_s = float("-inf")
        self._neighbourhood = Neighbourhood()
        self.progress = (0, False)
        """This is (my step, whether I am done), for probes."""
        self.overwritten = 0
        """The number of parcels that were replaced by a newer one before the network could collect them."""
        self._taking_awaited = False

    # --- the training thread -------------------------------------------------------------------------------------

    def post(self, parcel: Parcel) -> bool:
        """Leave a parcel for the neighbours named in it. Returns whether it was accepted.

        A state always is, and replaces an older one that the network has not collected yet. Mass or a stream is not
        accepted while its link is busy: the sender keeps it, and posts again later.
        """
        with self._lock:
            self._note_use(parcel)
            if parcel.delivery is not DeliveryClass.STATE:
                (peer,), topic = parcel.to, parcel.topic
                slot = self.room.reserve(peer, topic, parcel)
                if slot is None:
                    return False
                if slot.topic != topic:
                    parcel = parcel.with_content(topic=slot.topic)
                self._consigned.append((slot, parcel))
            else:
                for peer in parcel.to:
                    slot = Slot(peer, parcel.topic, parcel.key)
                    self.overwritten += slot in self._outbox
                    self._outbox[slot] = parcel
        self._wake()
        return True

    def _note_use(self, parcel: Parcel) -> None:
        topics, largest = self.intake.topics, self.intake.largest
        if parcel.payload.nbytes > largest or not self.intake.knows(parcel.topic):
            more = topics | {parcel.topic} if topics is not None else None
            self.intake = Intake(more, max(largest, parcel.payload.nbytes))

    def take(self) -> list[Received]:
        """Return all that arrived since the last call, in order: at most one state per (sender, topic, key), every
        parcel of mass and streams, and what was returned to me."""
        if not self._inbox:  # a stale read costs one step of delay; taking the lock in each step would cost more
            return []
        with self._lock:
            received = list(self._inbox.values())
            self._taken.update(slot for slot, number in self._inbox if number == _STATE)
            self._inbox.clear()
            self._waiting_bytes.clear()
            awaited = self._taking_awaited
        if awaited:
            self._wake()
        return received

    def settle(self, settlements: Iterable[Settlement]) -> None:
        """Leave the learner's settlements of arrivals of mass and streams, each once."""
        with self._lock:
            before = len(self._settlements)
            self._settlements.extend(settlements)
            some = len(self._settlements) > before
        if some:
            self._wake()

    def complain(self, complaints: Iterable[Complaint]) -> None:
        """Leave complaints about payloads that the learner has refused. The network gets them with what is collected
        next."""
        with self._lock:
            self._complaints.extend(complaints)

    def neighbourhood(self) -> Neighbourhood:
        """The other peers, as last published by the network."""
        return self._neighbourhood

    def report_progress(self, step: int, done: bool) -> None:
        """Tell the network which step I am at (probes carry it) and whether I have finished training and only serve."""
        _, was_done = self.progress
        self.progress = (step, done)
        if done != was_done:
            self._wake()

    def drain_events(self, now: float | None = None) -> list[Event]:
        """Return events of the network since the last call, oldest first, with floods condensed (condensing.py). `now`
        is the network's clock, infinity at the end; without it, the time of the newest event."""
        if not self._events:
            return []
        with self._lock:
            return self._events.drain(self._events_told_s if now is None else now)

    # --- the network thread --------------------------------------------------------------------------------------

    def collect(self) -> Collected:
        """Return what the training thread left since the last call."""
        with self._lock:
            parcels = [*self._outbox.items(), *self._consigned]
            collected = Collected(parcels, sorted(self._taken), self._settlements, self._complaints)
            self._outbox.clear()
            self._taken.clear()
            self._consigned, self._settlements, self._complaints = [], [], []
        return collected

    def await_taking(self, awaited: bool) -> bool:
        """Ask to be woken by the next `take`, or stop asking. Returns True when something was taken just before."""
        if not awaited and not self._taking_awaited:
            return False
        with self._lock:
            self._taking_awaited = awaited
            return awaited and bool(self._taken)

    def deliver(self, received: Received) -> bool:
        """Put an arrival into the inbox: a state over an older one (the caller has checked that it is newer), mass and
        streams beside what is there. Returns whether other states of its sender were dropped for it."""
        slot = Slot(received.peer, received.topic, received.key)
        with self._lock:
            # Versions do not identify parcels: a returned one has a number of mine, the others have numbers of their
            # senders, and two processes may have been started in the same millisecond.
            self._delivered += 1
            if received.delivery is not DeliveryClass.STATE:
                self._inbox[slot, self._delivered] = received
                return False
            self._remove(slot)  # so that the dictionary's order stays the order of arrival
            gave_way = self._make_room(slot.peer, received.payload.memory_bytes)
            self._inbox[slot, _STATE] = received
            self._waiting_bytes[slot.peer] += received.payload.memory_bytes
            return gave_way

    def _remove(self, slot: Slot) -> None:
        known = self._inbox.pop((slot, _STATE), None)
        if known is not None:
            self._waiting_bytes[slot.peer] -= known.payload.memory_bytes

    def _make_room(self, sender: PeerName, size: int) -> bool:
        """Make room for `size` bytes. Returns whether a state was dropped. It counts as taken, so that its sender goes
        on."""
        room = self._limits.waiting_bytes_max(self.intake.largest) - size
        if self._waiting_bytes[sender] <= room:
            return False
        states = [slot for slot, number in self._inbox if slot.peer == sender and number == _STATE]
        for slot in states:
            if self._waiting_bytes[sender] > room:
                self._remove(slot)
                self._taken.add(slot)
        return bool(states)

    def tell(self, neighbourhood: Neighbourhood | None, events: Iterable[Event]) -> None:
        """Publish a new snapshot of the others (None: unchanged) and events."""
        with self._lock:
            if neighbourhood is not None:
                self._neighbourhood, self.room.lossy = neighbourhood, neighbourhood.lossy
            self._events.add(events)
            self._events_told_s = max([self._events_told_s, *(event.at_s for event in events)])

    def waiting(self) -> list[Received]:
        """The arrivals that the learner has not taken yet, oldest first, for observers."""
        with self._lock:
            return list(self._inbox.values())
