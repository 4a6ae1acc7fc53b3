"""A peer's end of the exchange: what has arrived for it, what it posts, and which peers are its neighbours now.

Rules of this file
1. Each arrival of mass or of a stream gets one verdict. An arrival that a strategy leaves without one is refused;
   otherwise its link would be busy for ever.
2. What a strategy posts on a link that can take no more is returned to it, so that no mass is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gossipdistill.ids import PeerName, Version
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.neighbours import Neighbours
from gossipdistill.learning.rounds import Lockstep, Without
from gossipdistill.learning.state_transfer import GIVEN, TOPICS, Donor, without_asks
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, DeliveryClass, Intake, Parcel, Returned, Settlement, arrivals_of
from gossipdistill.strategies.base import Delivery, RoundOptions, Strategy, View
from gossipdistill.topology import Schedule


@dataclass(slots=True)
class Endpoint:
    """Between a strategy and the mailbox. `strict`: a strategy that breaks a rule of this file is an exception, as in
    tests, and not a warning."""

    learner: Learner
    strategy: Strategy
    mailbox: Mailbox
    cadence: Cadence
    neighbours: Neighbours
    strict: bool = False
    lockstep: Lockstep | None = None
    donor: Donor | None = None
    """This donor gives my model to newcomers; None where weights are not shared."""
    returned: list[Returned] = field(default_factory=list)
    """These parcels are mine again, and are not mixed in yet."""
    published_bytes: int = 0
    """The last publication was of this size; 0 as long as there was none."""
    _waiting: list[Arrival] = field(default_factory=list)
    """These arrivals were taken out of the mailbox, and are not mixed yet."""

    @classmethod
    def of(
        cls, learner: Learner, strategy: Strategy, mailbox: Mailbox, cadence: Cadence, schedule: Schedule, strict: bool
    ) -> Endpoint:
        """The endpoint for this strategy. From now on the mailbox keeps only the strategy's topics, within bounds that
        follow from the model."""
        topics = {strategy.topic, *strategy.other_topics, *TOPICS}
        mailbox.intake = Intake(frozenset(topics), sum(p.nbytes for p in learner.model.parameters()))
        neighbours = Neighbours(schedule, learner.name, learner.place, strategy.delivery.settled)
        options = strategy.options
        lockstep = Lockstep(options.round_timeout_s) if isinstance(options, RoundOptions) else None
        return cls(learner, strategy, mailbox, cadence, neighbours, strict, lockstep)

    # --- what has arrived ------------------------------------------------------------------------------------------

    def arrivals(self) -> list[Arrival]:
        """All that neighbours have sent and that is to be mixed now."""
        self._take()
        arrivals, self._waiting = self._waiting, []
        return arrivals

    def state_chunks(self) -> list[Arrival]:
        """The chunks of a donor's model that have come before the first step. Mass is refused, so that it returns to
        its sender, and all else is dropped."""
        arrivals = arrivals_of(self.mailbox.take())
        for arrival in without_asks(arrivals, self.donor, self.learner.ledger):
            if arrival.delivery is not DeliveryClass.STATE:
                self.learner.refuse(arrival, "is catching up")
        self.settle([])
        return [arrival for arrival in arrivals if arrival.topic == GIVEN]

    def refuse_all(self, reason: str) -> None:
        """Take nothing of what has arrived: mass and parts of streams are refused."""
        for arrival in self.arrivals():
            if arrival.delivery is not DeliveryClass.STATE:
                self.learner.refuse(arrival, reason)

    def awaited(self, now: float) -> frozenset[PeerName]:
        """The neighbours that a round still waits for; none where there are no rounds."""
        if self.lockstep is None:
            return frozenset()
        self._take()
        neighbourhood = self.mailbox.neighbourhood()
        late = sum(self.lockstep.late.values())
        missing = self.lockstep.awaited(now, Without(neighbourhood.alive, neighbourhood.done | neighbourhood.muted))
        if sum(self.lockstep.late.values()) > late:
            names = ", ".join(sorted(self.lockstep.late))
            self.learner.ledger.warn(f"rounds have gone on without neighbours that were too late: {names}")
        return missing

    def _take(self) -> None:
        received = self.mailbox.take()
        self.returned += [one for one in received if isinstance(one, Returned)]
        arrivals = without_asks(arrivals_of(received), self.donor, self.learner.ledger)
        self._waiting += arrivals
        if self.lockstep is not None:
            for arrival in arrivals:
                self.lockstep.heard(arrival.sender, arrival.exchange)
            number = self.lockstep.catch_up()
            if number is not None:
                self.cadence.exchanges = number

    # --- what is said ----------------------------------------------------------------------------------------------

    def settle(self, arrivals: Iterable[Arrival]) -> None:
        """Hand the strategy's verdicts on these to the mailbox (rule 1)."""
        settlements, self.learner.settlements = self.learner.settlements, []
        settled = {(s.sender, s.topic, s.version) for s in settlements}
        for arrival in arrivals:
            key = (arrival.sender, arrival.topic, arrival.version)
            if arrival.delivery is DeliveryClass.STATE or key in settled:
                continue
            problem = f"strategy {self.strategy.name} has not settled what came from {arrival.sender}"
            if self.strict:
                raise AssertionError(problem)
            self.learner.ledger.warn(problem + "; refused in its stead")
            settlements.append(Settlement(*key, absorbed=False, reason="not settled"))
        if self.strict and len(settled) < len(settlements):
            raise AssertionError(f"strategy {self.strategy.name} has settled an arrival twice")
        self.mailbox.settle(settlements)

    def answer(self, arrivals: list[Arrival], parcels: Iterable[Parcel]) -> None:
        """Pass on a strategy's verdicts on these arrivals, its complaints about senders, and its `parcels`."""
        if self.strategy.delivery.settled:
            self.settle(arrivals)
        complaints, self.learner.ledger.complaints = self.learner.ledger.complaints, []
        if complaints:
            self.mailbox.complain(complaints)
        self.post(parcels)

    def post(self, parcels: Iterable[Parcel]) -> None:
        """Leave parcels in the mailbox."""
        for parcel in parcels:
            if not self.mailbox.post(parcel):
                self._take_back(parcel)

    def _take_back(self, parcel: Parcel) -> None:
        """Rule 2."""
        problem = f"strategy {self.strategy.name} has posted for {parcel.to[0]} on a busy link"
        if self.strict:
            raise AssertionError(problem)
        self.learner.ledger.warn(problem + "; given back")
        self.returned.append(Returned(parcel.to[0], Version(0, 0), parcel.content, "the link was busy"))

    # --- which are there --------------------------------------------------------------------------------------------

    def view(self, arrivals: list[Arrival], now: float, exchange: int | None = None) -> View:
        """The neighbourhood of an exchange, by default the next one: which peers get what I publish, and the weight of
        each arrival."""
        exchange = self.cadence.exchanges if exchange is None else exchange
        neighbourhood = self.mailbox.neighbourhood()
        in_weights: dict[str, float] = {}
        if arrivals and self.strategy.delivery is Delivery.STATE:
            weight = self.neighbours.in_weight
            in_weights = {str(arrival.sender): weight(neighbourhood, arrival.exchange) for arrival in arrivals}
        return View(exchange, now, self.neighbours.out(neighbourhood, exchange), in_weights)

    def with_links(self, view: View, publishes: bool = False) -> View:
        """The view, with the links that can take no more now; where mass is published, also with the links that are
        two-way, and the weight that is in flight."""
        if not self.strategy.delivery.settled:
            return view
        delivery = DeliveryClass(self.strategy.delivery.value)
        view = replace(view, busy=self.mailbox.room.busy(self.strategy.topic, delivery))
        if not publishes or self.strategy.delivery is not Delivery.MASS:
            return view
        two_way = self.neighbours.two_way(self.mailbox.neighbourhood())
        return replace(view, two_way=two_way, under_way=self.mailbox.room.under_way())

    def coming(self) -> tuple[PeerName, ...]:
        """The living neighbours of the next exchanges, the nearest first."""
        return self.neighbours.coming(self.mailbox.neighbourhood(), self.cadence.exchanges)
