"""How a peer leaves a run that goes on without it: its mass goes to a neighbour, and it waits a moment for the answer.

A peer that ends because its training is over keeps its mass, as its model is its result. One that is asked to end has
saved its model, and has no more use for what it holds of the run's conserved sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import DeliveryClass, Parcel
from gossipdistill.strategies.base import View
from gossipdistill.training.gossip import Gossip

WAIT_S = 1.0
"""The successor's answer is awaited for at most this time (s)."""
LOOK_S = 0.002
"""Two looks are this time (s) apart."""


@dataclass(slots=True)
class Leaving:
    """The end of one peer; `look` is called until it is `over`. Times are readings of the clock that `look` gets."""

    gossip: Gossip
    began_s: float
    successor: PeerName | None = None
    weight: float = 0.0
    over: bool = False
    _ended_s: float = 0.0
    _passed_over: set[PeerName] = field(default_factory=set)
    """These peers have returned my mass."""

    def __post_init__(self) -> None:
        # The others send nothing more to this peer, as to one that has done all its steps.
        self.gossip.endpoint.mailbox.report_progress(self.gossip.learner.step, done=True)

    def look(self, now: float) -> bool:
        """Hand over the mass, to the next neighbour if it was refused. Returns whether that is settled, or time is
        up."""
        if not self.over:
            for parcel in self._hand_over(now):
                self.successor, self.weight = parcel.to[0], parcel.weight
            self.over = self._settled() or now - self.began_s >= WAIT_S
            self._ended_s = now
        return self.over

    def event(self, at_s: float) -> Event | None:
        """What became of the mass, at `at_s` of the clock of events; None where no peer was given any."""
        if self.successor is None:
            return None
        took_s = self._ended_s - self.began_s
        mine = f"all my mass, of weight {self.weight:.4g}"
        detail: dict[str, str | int | float] = {"weight": self.weight, "seconds": round(took_s, 3)}
        if not self._settled():
            reason = (
                f"{mine}, was sent, and not settled within {took_s:.1f} s: if it arrives it is used, else it is lost"
            )
        elif self.gossip.held_weight() > 0.0:
            reason = f"{mine}, was refused by all that I can reach; it ends with this process"
        else:
            reason = f"{mine}, was taken within {took_s:.3f} s"
        return Event(EventKind.HANDED_OVER, at_s, self.successor, reason, detail)

    def _hand_over(self, now: float) -> list[Parcel]:
        """Refuse what arrives, and send all my mass to one living peer; the model stays as it is."""
        gossip, endpoint = self.gossip, self.gossip.endpoint
        gossip.learner.now_s = now
        endpoint.refuse_all("is leaving")
        returned, endpoint.returned = tuple(endpoint.returned), []
        self._passed_over.update(one.recipient for one in returned)
        endpoint.settle([])
        successors = tuple(name for name in endpoint.coming() if name not in self._passed_over)
        busy = gossip.endpoint.mailbox.room.busy(gossip.strategy.topic, DeliveryClass.MASS)
        view = View(gossip.endpoint.cadence.exchanges, now, successors, busy=busy, returned=returned)
        parcels = gossip.strategy.hand_over(gossip.state, gossip.learner, view)
        endpoint.post(parcels)
        return parcels

    def _settled(self) -> bool:
        """Whether no mass is in flight from me to one of the living."""
        alive = self.gossip.endpoint.mailbox.neighbourhood().alive
        return not any(slot.peer in alive for slot in self.gossip.endpoint.mailbox.room.in_flight())
