"""Checks of a peer's place among the others: whether it exchanges anything, and whether all are connected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gossipdistill.events import Event
from gossipdistill.learning.alarms import Silence, connection_event
from gossipdistill.learning.company import Attempt, Company
from gossipdistill.messages import Neighbourhood
from gossipdistill.topology import Connection, Schedule
from gossipdistill.training.endpoint import Endpoint

JUDGED_PEERS_MAX = 512
"""In a roster of more peers than this, it is not checked whether the graph of the living is connected."""


@dataclass(slots=True)
class Alarms:
    """Looks at one endpoint; each `check` returns an event when something begins and when it is over."""

    endpoint: Endpoint
    schedule: Schedule
    began_s: float | None = None
    """The first step began at this clock reading (s); None before it."""
    company: Company = field(default_factory=Company)
    _connection: Connection = field(init=False)
    _silence: Silence = field(default_factory=Silence)
    _judged: Neighbourhood | None = None

    def __post_init__(self) -> None:
        self._connection = Connection(self.schedule)

    @property
    def gossips(self) -> bool:
        """Whether this peer is to exchange anything with others."""
        return self.endpoint.strategy.delivery.gossips and len(self.schedule.peers) > 1

    def notice_company(self, now: float, last: bool = False) -> None:
        """Note which neighbours are present, as long as nothing has been exchanged. `last`: note it however short the
        time was."""
        company, endpoint = self.company, self.endpoint
        if company.over or not company.due(now, last):
            return
        company.over = not self.gossips or endpoint.learner.ledger.exchanges > 0
        if not company.over:
            company.look(now, *endpoint.neighbours.around(endpoint.mailbox.neighbourhood()))

    def attempt(self, steps: int, due: int, **seen: Any) -> Attempt:
        """The input of `learning/company.unexchanged`, after `steps` optimizer steps and `due` exchanges."""
        endpoint, company = self.endpoint, self.company
        ledger, statuses = endpoint.learner.ledger, endpoint.mailbox.neighbourhood().statuses
        mute = due > 0 and company.recipients and not endpoint.published_bytes
        return Attempt(
            ledger.exchanges,
            due,
            steps,
            endpoint.strategy.exchange.every_steps,
            company,
            no_neighbour=not endpoint.neighbours.any_in_topology(),
            payload_bytes=endpoint.published_bytes,
            refused=ledger.quarantined,
            left_out=ledger.left_out,
            unpublished=["it has published nothing itself", *ledger.warnings] if mute else (),
            statuses={str(name): status for name, status in statuses.items()},
            **seen,
        )

    def check_exchange(self, now: float) -> Event | None:
        """An event when training goes on without gossip for `SILENCE_S`."""
        if not self.gossips or self.began_s is None:
            return None
        learner, mailbox = self.endpoint.learner, self.endpoint.mailbox
        period_s = learner.paces.period_s(self.endpoint.strategy.exchange.every_steps)
        return self._silence.look(now, self.began_s, learner.ledger, mailbox.neighbourhood(), period_s)

    def check_connection(self, now: float) -> Event | None:
        """An event when the living peers no longer form one graph in which news gets round."""
        neighbourhood = self.endpoint.mailbox.neighbourhood()
        if neighbourhood is self._judged:
            return None
        self._judged = neighbourhood
        if len(self.schedule.peers) > JUDGED_PEERS_MAX:
            return None
        known = self.endpoint.neighbours.known(neighbourhood)
        return connection_event(self._connection, {known.me, *known.alive}, now)
