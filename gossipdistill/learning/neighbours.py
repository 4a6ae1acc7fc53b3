"""Which of the living peers are my neighbours, in which exchange, and what their states weigh.

A schedule is over labels: names, or places where there is no roster. The network uses names; this file translates.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.learning.rounds import Without
from gossipdistill.messages import Neighbourhood
from gossipdistill.topology import Schedule

EXCHANGES_LOOKED_AT = 64
"""If a schedule has no period, neighbours of exchanges to come are looked for in this number of them."""
_WEIGHTS_KEPT_MAX = 256


@dataclass(frozen=True, slots=True)
class Known:
    """One snapshot `of` the others, in the labels of the schedule: `me`, the peers that are alive, and those that take
    parcels of this strategy. `name_of` gives the name for a label, where that is not the label itself."""

    of: Neighbourhood
    me: str
    alive: Set[str]
    reachable: Set[str]
    name_of: dict[str, str]


@dataclass(slots=True)
class Neighbours:
    """`schedule` is over places, as texts "0", "1", ..., or over names. A peer that is `done` takes no parcel where
    `settled` ones are sent."""

    schedule: Schedule
    me: str
    place: int
    settled: bool
    _known: Known | None = None
    _weights: dict[int, float] = field(default_factory=dict)
    _out: tuple[Neighbourhood, int, tuple[PeerName, ...]] | None = None
    _two_way: tuple[Neighbourhood, frozenset[str]] | None = None

    def known(self, neighbourhood: Neighbourhood) -> Known:
        """The others under the labels of the schedule; computed again when the network has reported a change."""
        if self._known is not None and self._known.of is neighbourhood:
            return self._known
        self._weights.clear()
        alive: Set[str] = neighbourhood.alive
        done: Set[str] = neighbourhood.done | neighbourhood.muted
        name_of: dict[str, str] = {}
        me = self.me
        if me not in self.schedule.places:  # without a roster, a label is a place
            label_of = {str(name): self.schedule.peers[place] for name, place in neighbourhood.places.items()}
            me = label_of.setdefault(me, self.schedule.peers[self.place])
            name_of = {label: name for name, label in label_of.items()}
            alive = frozenset(label_of[name] for name in alive if name in label_of)
            done = frozenset(label_of[name] for name in done if name in label_of)
        reachable = Without(alive, done) if self.settled and done else alive
        self._known = Known(neighbourhood, me, alive, reachable, name_of)
        return self._known

    def out(self, neighbourhood: Neighbourhood, exchange: int) -> tuple[PeerName, ...]:
        """The peers that I send to in this exchange."""
        if self._out is None or self._out[0] is not neighbourhood or self._out[1] != exchange:
            self._out = (neighbourhood, exchange, self._names(self.known(neighbourhood), exchange))
        return self._out[2]

    def coming(self, neighbourhood: Neighbourhood, exchange: int) -> tuple[PeerName, ...]:
        """The peers that I would send to from this exchange on, the nearest first: all of one period, where there is
        one."""
        known = self.known(neighbourhood)
        turns = (self._names(known, exchange + turn) for turn in self._one_period)
        return tuple(dict.fromkeys(name for names in turns for name in names))

    def around(self, neighbourhood: Neighbourhood) -> tuple[frozenset[str], frozenset[str]]:
        """(the peers that send to me, those that I send to) in any exchange of a period, of those that live and still
        train."""
        known, schedule, exchanges = self.known(neighbourhood), self.schedule, self._one_period
        senders = {label for number in exchanges for label in schedule.living_in(known.me, number, known.alive)}
        recipients = {label for number in exchanges for label in schedule.living(known.me, number, known.alive)}
        done = frozenset(map(str, neighbourhood.done))

        def names(labels: set[str]) -> frozenset[str]:
            return frozenset(known.name_of.get(label, label) for label in labels) - done

        return names(senders), names(recipients)

    def two_way(self, neighbourhood: Neighbourhood) -> frozenset[str]:
        """The peers around that send to me and that I send to; computed again when the network has reported a
        change."""
        if self._two_way is None or self._two_way[0] is not neighbourhood:
            senders, recipients = self.around(neighbourhood)
            self._two_way = (neighbourhood, senders & recipients)
        return self._two_way[1]

    def any_in_topology(self) -> bool:
        """Whether any peer would send to me, or I to any, in some exchange of a period, if all were alive."""
        schedule = self.schedule
        me = self.me if self.me in schedule.places else schedule.peers[self.place]
        return any(schedule.in_neighbours(me, n) or schedule.out_neighbours(me, n) for n in self._one_period)

    @property
    def _one_period(self) -> range:
        periodic = self.schedule.periodic
        return range(min(self.schedule.period, EXCHANGES_LOOKED_AT) if periodic else EXCHANGES_LOOKED_AT)

    def in_weight(self, neighbourhood: Neighbourhood, exchange: int) -> float:
        """1 / (1 + living in-neighbours of me at the sender's exchange)."""
        known = self.known(neighbourhood)
        key = exchange % self.schedule.period if self.schedule.periodic else exchange
        if key not in self._weights:
            if len(self._weights) > _WEIGHTS_KEPT_MAX:
                self._weights.clear()
            senders = self.schedule.living_in(known.me, exchange, known.alive)
            self._weights[key] = 1.0 / (1 + max(len(senders), 1))
        return self._weights[key]

    def _names(self, known: Known, exchange: int) -> tuple[PeerName, ...]:
        labels = self.schedule.living(known.me, exchange, known.reachable)
        return tuple(PeerName(known.name_of.get(label, label)) for label in labels)
