"""The gossip half of a peer: when which verb of its strategy is called, and with what. It has no data, makes no step of
an optimizer, and reads no clock, so that it fits into any training loop:

    gossip.begin_step(now)         mixes what has arrived
    term = gossip.loss()           what the strategy adds to the loss of the batch in progress
    gossip.adjust()                after backward
    gossip.end_step(now)           after the optimizer's step: publishes, if an exchange is due

It never waits. Where a strategy goes in lockstep, the owner of the loop first asks `awaited(now)`, and lets time pass
until no peer is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from gossipdistill.ids import PeerName
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.checkpoint import Memory
from gossipdistill.learning.learner import Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival
from gossipdistill.strategies.base import Delivery, LossTerm, Strategy, View
from gossipdistill.topology import Schedule
from gossipdistill.training.alarms import Alarms
from gossipdistill.training.endpoint import Endpoint


@dataclass(slots=True)
class Gossip:
    """One peer's strategy at work. Times are readings of the owner's clock in seconds."""

    learner: Learner
    strategy: Strategy
    endpoint: Endpoint
    alarms: Alarms
    state: Any = field(init=False)
    """The strategy keeps this state between its verbs."""
    _view: View = field(default_factory=View)

    def __post_init__(self) -> None:
        self.state = self.strategy.init(self.learner)

    @classmethod
    def of(
        cls,
        learner: Learner,
        strategy: Strategy,
        schedule: Schedule,
        mailbox: Mailbox,
        cadence: Cadence,
        strict: bool = False,
    ) -> Gossip:
        """For a learner whose model and optimizer are complete.

        Args:
            schedule: over places, as texts "0", "1", ..., or over names.
            strict: whether a strategy that leaves an arrival unsettled is an exception, as in tests, or a warning.
        """
        endpoint = Endpoint.of(learner, strategy, mailbox, cadence, schedule, strict)
        return cls(learner, strategy, endpoint, Alarms(endpoint, schedule))

    # --- a step ----------------------------------------------------------------------------------------------------

    def awaited(self, now: float) -> frozenset[PeerName]:
        """The neighbours that this peer has to wait for before its next step; none without rounds.

        The owner asks again a little later, until the answer is empty: after `round_timeout_s` at the latest.
        """
        return self.endpoint.awaited(now)

    def begin_step(self, now: float) -> None:
        """Before the forward pass: absorb what has arrived, and give to newcomers. A strategy that is `overlapped`
        publishes here."""
        learner = self.learner
        learner.now_s = now
        learner.paces.steps.look(now)
        if self.alarms.began_s is None:
            self.alarms.began_s = now
            self._tell_what_is_shared()
        self._view = self.mix(self.endpoint.arrivals(), now)
        self.give(now)
        if self.strategy.overlapped:
            self._publish_if_due(learner.step + 1, now)

    def loss(self) -> LossTerm:
        """The term that the strategy adds to the loss of the batch in progress."""
        return self.strategy.loss(self.state, self.learner)

    def adjust(self) -> None:
        """Between backward and the optimizer's step."""
        self.strategy.adjust(self.state, self.learner)

    def end_step(self, now: float) -> None:
        """After the optimizer's step: count it, and publish if an exchange is due."""
        self.learner.step += 1
        if not self.strategy.overlapped:
            self._publish_if_due(self.learner.step, now)
        self.endpoint.mailbox.report_progress(self.learner.step, done=False)

    def mix(self, arrivals: list[Arrival], now: float) -> View:
        """Let the strategy absorb these arrivals and what was returned, and pass its verdicts on. Returns the view that
        it was given."""
        endpoint = self.endpoint
        self.alarms.notice_company(now)
        view = endpoint.view(arrivals, now)
        for arrival in arrivals:
            self.learner.paces.heard(arrival.sender, arrival.arrived_s)
        returned, endpoint.returned = tuple(endpoint.returned), []
        if (arrivals or returned) and self.strategy.delivery is Delivery.MASS:
            view = endpoint.with_links(view)
        seen = replace(view, returned=returned) if returned else view
        parcels = self.strategy.mix(self.state, self.learner, arrivals, seen)
        endpoint.answer(arrivals, parcels)
        return view

    def publish(self, view: View, now: float) -> None:
        """Post the strategy's parcels for the neighbours of this view."""
        endpoint = self.endpoint
        parcels = self.strategy.publish(self.state, self.learner, endpoint.with_links(view, publishes=True))
        if parcels:
            endpoint.published_bytes = parcels[0].payload.nbytes
        endpoint.post(parcels)
        if endpoint.lockstep is not None:
            endpoint.lockstep.posted(view.exchange, [name for parcel in parcels for name in parcel.to])

    def give(self, now: float) -> None:
        """Send the next chunks of my model to newcomers that have asked for some."""
        donor = self.endpoint.donor
        if donor is not None and donor.asked:
            began_s = self.alarms.began_s
            trained_s = now - began_s if began_s is not None else 0.0
            self.endpoint.post(donor.answers(now, self.learner, trained_s))

    def _publish_if_due(self, step: int, now: float) -> None:
        """Publish after step number `step` (from 1), if the period is over or the strategy presses for it. Publications
        that it presses for go round the neighbours of the schedule separately, and take no exchange's number."""
        cadence = self.endpoint.cadence
        if cadence.due(step, now):
            self.publish(self._view, now)
        elif self.strategy.presses(self.state):
            number = cadence.exchanges + cadence.presses
            view = self.endpoint.with_links(
                replace(self._view, exchange=number, out_neighbours=self.endpoint.view([], now, number).out_neighbours)
            )
            if view.free and cadence.may_press(now):
                self.publish(view, now)

    def _tell_what_is_shared(self) -> None:
        if self.strategy.needs.alike_models and self.strategy.delivery.gossips:
            self.learner.ledger.tell(self.learner.shared.told())

    # --- what outlives a process --------------------------------------------------------------------------------------

    def remember(self) -> Memory:
        """The values that a checkpoint keeps beside the model and the optimizer."""
        learner = self.learner
        return {**self.strategy.remember(self.state), **learner.delays.remember(), **learner.norms.remember()}

    def recall(self, memory: Memory, exchanges: int) -> None:
        """Go on from what a checkpoint has kept, after this number of `exchanges`, without any state of a link."""
        self.endpoint.cadence.exchanges = exchanges
        self.strategy.recall(self.state, self.learner, memory)
        self.learner.delays.recall(memory)
        self.learner.norms.recall(memory)

    def held_weight(self) -> float:
        """The push-sum weight that this peer holds, with what was returned and is not mixed in yet; 0 without mass."""
        if self.strategy.delivery is not Delivery.MASS:
            return 0.0
        return float(self.state.weight) + sum(one.weight for one in self.endpoint.returned)
