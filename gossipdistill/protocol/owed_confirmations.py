"""Confirmations of states that wait for a state that goes the other way (rule 4 of protocol/states.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.messages import Confirm
from gossipdistill.protocol.deadlines import NEVER, Deadlines


@dataclass(slots=True)
class OwedConfirmations:
    """The oldest owed confirmation of each slot, by sender. None waits longer than `delay_s`."""

    delay_s: float
    _by_peer: dict[PeerName, dict[tuple[str, str], int]] = field(default_factory=dict)
    _deadlines: Deadlines[PeerName] = field(default_factory=Deadlines)

    def owe(self, peer: PeerName, confirm: Confirm, now: float) -> None:
        """Owe this confirmation from now on, unless one is owed for its slot already."""
        owed = self._by_peer.setdefault(peer, {})
        if not owed:
            self._deadlines.set(peer, now + self.delay_s)
        owed.setdefault((confirm.topic, confirm.key), confirm.number)

    def owes(self, peer: PeerName, confirm: Confirm) -> bool:
        """Whether a confirmation is owed for the slot of this one."""
        return (confirm.topic, confirm.key) in self._by_peer.get(peer, {})

    def with_owed(self, peer: PeerName, confirm: Confirm) -> Confirm:
        """Return this confirmation, or the owed one of its slot if that is newer; it is then no longer owed."""
        owed = self._by_peer.get(peer, {}).pop((confirm.topic, confirm.key), 0)
        return Confirm(confirm.topic, confirm.key, max(confirm.number, owed))

    def pay(self, peer: PeerName) -> tuple[Confirm, ...]:
        """Return all confirmations owed to this peer, which are then no longer owed."""
        self._deadlines.set(peer, NEVER)
        return tuple(Confirm(*slot_of, number) for slot_of, number in self._by_peer.pop(peer, {}).items())

    def overdue(self, now: float) -> list[tuple[PeerName, Confirm]]:
        """Return confirmations that have waited for long enough without a state to ride on; they are sent now."""
        return [(peer, confirm) for peer in self._deadlines.pop_due(now) for confirm in self.pay(peer)]

    def next_s(self) -> float:
        """The time at which the first one has waited for long enough."""
        return self._deadlines.next_s()
