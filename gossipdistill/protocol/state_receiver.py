"""The reader's half of states: the newest version of each slot goes to the learner, and is confirmed.

The rules are at the head of protocol/states.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.messages import Announce, Arrival, Confirm, Slot, State, Want
from gossipdistill.protocol.members import Member
from gossipdistill.protocol.parcels import StateOutbox


@dataclass(slots=True)
class Incoming:
    """The newest version that arrived in one slot of one sender, and the newest that it has announced."""

    version: Version
    announced: int = 0
    learner_has_it: bool = True


@dataclass(slots=True)
class StateReceiver:
    """`partners` are the peers that may be asked now."""

    limits: Limits
    partners: Mapping[PeerName, Member]
    box: StateOutbox
    incoming: dict[Slot, Incoming] = field(default_factory=dict)
    _awaiting: set[Slot] = field(default_factory=set)
    """Slots in which an announced state waits until the learner has taken the one before it."""

    def arrived(self, sender: PeerName, boot: Boot, state: State, now: float) -> str:
        """Handle a version: confirm it, and hand it to the learner unless a newer one arrived before. Returns why it
        was not handed over, in one word; empty if it was."""
        slot, version = Slot(sender, state.topic, state.key), Version(boot, state.number)
        known = self._incoming(slot, boot)
        self._confirm(sender, state, known is not None, now)
        if known is None:
            return "slots"
        if version <= known.version:
            self.box.count(sender).overtaken += 1
            return "repeated"
        known.version, known.learner_has_it = version, False
        if known.announced <= state.number:
            self._awaiting.discard(slot)
        self.box.arrivals.append(Arrival(sender, version, state.content, now))
        return ""

    def _confirm(self, sender: PeerName, state: State, may_wait: bool, now: float) -> None:
        """Owe a confirmation, or send it at once: for large states, and when one for this slot is owed already."""
        owed, confirm = self.box.owed, Confirm(state.topic, state.key, state.number)
        small = state.payload.nbytes <= self.limits.push_bytes_max
        if small and may_wait and not owed.owes(sender, confirm):
            owed.owe(sender, confirm, now)
        else:
            self.box.out.append((sender, owed.with_owed(sender, confirm)))

    def awaits_taking(self) -> bool:
        """Whether an announcement waits until the learner has taken the version before it."""
        return bool(self._awaiting)

    def announced(self, sender: PeerName, boot: Boot, announce: Announce, now: float) -> None:
        """Handle an announcement of a large state: ask for it now, or as soon as the learner has taken the last one."""
        slot = Slot(sender, announce.topic, announce.key)
        known = self._incoming(slot, boot)
        if known is None:
            return
        known.announced = max(known.announced, announce.number)
        if announce.number <= known.version.number:
            self.box.out.append((sender, Confirm(slot.topic, slot.key, announce.number)))  # the first one was lost
        else:
            self._ask(slot, known)
            if not known.learner_has_it:
                self._awaiting.add(slot)

    def taken(self, slot: Slot, now: float) -> None:
        """Note that the learner has emptied this slot of its inbox."""
        known = self.incoming.get(slot)
        if known is not None:
            known.learner_has_it = True
            self._awaiting.discard(slot)
            self._ask(slot, known)

    def _ask(self, slot: Slot, known: Incoming) -> None:
        if known.announced > known.version.number and known.learner_has_it and slot.peer in self.partners:
            self.box.out.append((slot.peer, Want(slot.topic, slot.key, known.announced)))

    def forget_processes(self, peer: PeerName) -> None:
        """Forget the processes of a peer: its next one may have a lower boot than those before."""
        for slot, known in self.incoming.items():
            if slot.peer == peer:
                known.version, known.announced = Version(Boot(0), 0), 0
                self._awaiting.discard(slot)

    def _incoming(self, slot: Slot, boot: Boot) -> Incoming | None:
        """The row of a slot for this process of its sender; None when the sender has used up its number of rows."""
        known = self.incoming.get(slot)
        if known is None:
            if sum(other.peer == slot.peer for other in self.incoming) >= self.limits.slots_per_peer_max:
                return None
            known = self.incoming[slot] = Incoming(Version(boot, 0))
        if known.version.boot < boot:
            known.version, known.announced = Version(boot, 0), 0
            self._awaiting.discard(slot)
        return known
