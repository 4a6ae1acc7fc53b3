"""The hallway: the only place where the training thread and the network thread of a peer meet.

Rules of this file
1. Pure: the lock and the wake-up come in as arguments (drivers/handoff.py supplies real ones; tests need none).
2. Neither side ever waits for the other: every call copies a few references under the lock and returns.
3. Newest wins, out and in: one parcel per (recipient, topic, key) and one arrival per (sender, topic, key).

An unlocked slot lost 0.1 % of its posts in a measurement, hence the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from gossipdistill.events import Event
from gossipdistill.messages import Arrival, Neighbourhood, Parcel, Slot


class Mailbox:
    """Outbox, inbox, the current neighbourhood and the events of the network, between two threads.

    `wake` is called, outside the lock, when the network has something to collect.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object] | None = None,
        wake: Callable[[], None] | None = None,
        events_kept_max: int = 1024,
    ) -> None:
        self._lock = lock if lock is not None else nullcontext()
        self._wake = wake if wake is not None else lambda: None
        self._outbox: dict[Slot, Parcel] = {}
        self._inbox: dict[Slot, Arrival] = {}
        self._taken: set[Slot] = set()
        self._events: deque[Event] = deque(maxlen=events_kept_max)
        self._neighbourhood = Neighbourhood()
        self._step = 0
        self._done = False
        self._overwritten = 0
        self._taking_awaited = False

    # --- the training thread -------------------------------------------------------------------------------------

    def post(self, parcel: Parcel) -> None:
        """Leave news for the neighbours named in it. What the network had not collected yet is replaced."""
        with self._lock:
            for peer in parcel.to:
                slot = Slot(peer, parcel.topic, parcel.key)
                self._overwritten += slot in self._outbox
                self._outbox[slot] = parcel
        self._wake()

    def take(self) -> list[Arrival]:
        """All arrivals since the last call, at most one per (sender, topic, key), in order of their arrival."""
        if not self._inbox:  # a stale look costs one step of delay; taking the lock each step would cost more
            return []
        with self._lock:
            arrivals = list(self._inbox.values())
            self._taken.update(self._inbox)
            self._inbox.clear()
            awaited = self._taking_awaited
        if awaited:
            self._wake()
        return arrivals

    def neighbourhood(self) -> Neighbourhood:
        """Who is there, as last told by the network."""
        return self._neighbourhood

    def report_progress(self, step: int, done: bool) -> None:
        """Tell the network which step I am at (it travels in heartbeats) and whether I only serve from now on."""
        changed = done != self._done
        self._step, self._done = step, done
        if changed:
            self._wake()

    def drain_events(self) -> list[Event]:
        """Events of the network since the last call, oldest first."""
        if not self._events:
            return []
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    @property
    def overwritten(self) -> int:
        """Parcels replaced by a newer one before the network could collect them."""
        return self._overwritten

    # --- the network thread --------------------------------------------------------------------------------------

    def collect(self) -> tuple[list[tuple[Slot, Parcel]], list[Slot]]:
        """(parcels by recipient slot, inbox slots that the learner has emptied), both since the last call."""
        with self._lock:
            parcels = list(self._outbox.items())
            self._outbox.clear()
            taken = sorted(self._taken)
            self._taken.clear()
        return parcels, taken

    def await_taking(self, awaited: bool) -> bool:
        """Ask to be woken by the next `take`, or no longer. True when something was taken just before the asking."""
        with self._lock:
            self._taking_awaited = awaited
            return awaited and bool(self._taken)

    def deliver(self, arrival: Arrival) -> None:
        """Put a neighbour's state into the inbox, over an older one. The caller has checked that it is newer."""
        slot = Slot(arrival.sender, arrival.topic, arrival.key)
        with self._lock:
            self._inbox.pop(slot, None)  # so that the dictionary's order stays the order of arrival
            self._inbox[slot] = arrival

    def tell(self, neighbourhood: Neighbourhood | None, events: Iterable[Event]) -> None:
        """Publish a new snapshot of the others (None: unchanged) and what happened."""
        with self._lock:
            if neighbourhood is not None:
                self._neighbourhood = neighbourhood
            self._events.extend(events)

    def progress(self) -> tuple[int, bool]:
        """(my step, whether I am done), for heartbeats."""
        return self._step, self._done
