"""Which peer sends to which, as a function of the exchange.

An *exchange* is one publication of one peer. Schedules advance per exchange and never per optimiser step: a period of
ten steps on four peers would meet the same neighbour for ever. The place of a peer is its place in the roster and never
changes, so a death changes only the links of the peers that would have sent to the dead one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from gossipdistill.errors import ConfigError, nearest

APERIODIC_EXCHANGES = 64
"""This many exchanges of a schedule without a period are judged."""


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A topology, possibly time-varying. All answers are pure: same arguments, same answer, on every machine."""

    kind: str
    """The name of the rule, such as `ring` or `edges`."""
    peers: tuple[str, ...]
    """The names in roster order; the index of a name is the place of that peer."""

    def __post_init__(self) -> None:
        if not self.peers:
            raise ConfigError("a topology needs at least one peer")
        if len(self.places) < len(self.peers):
            twice = next(name for place, name in enumerate(self.peers) if self.places[name] != place)
            raise ConfigError(f"peer {twice!r} is named twice in the roster")

    @property
    @abstractmethod
    def period(self) -> int:
        """The number of exchanges until the schedule repeats; if it never does, the number that is judged."""

    @property
    def periodic(self) -> bool:
        """Whether the schedule repeats after `period` exchanges."""
        return True

    @property
    def closes_gaps(self) -> bool:
        """Whether a dead neighbour is replaced by the next living one in the same direction."""
        return False

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each peer, 0 to n-1."""
        return {name: place for place, name in enumerate(self.peers)}

    def place(self, peer: str) -> int:
        """Place of `peer`, or a `ConfigError` with the nearest names."""
        try:
            return self.places[peer]
        except KeyError:
            raise ConfigError(f"peer {peer!r} is not in the roster; {nearest(peer, self.peers)}") from None

    @abstractmethod
    def out_neighbours(self, peer: str, exchange: int) -> tuple[str, ...]:
        """The peers that `peer` sends to at its exchange number `exchange` (0, 1, ...), if all are alive."""

    def in_neighbours(self, peer: str, exchange: int) -> tuple[str, ...]:
        """The peers that send to `peer` at exchange `exchange` of the sender, if all are alive; in roster order."""
        self.place(peer)
        return tuple(name for name in self.peers if peer in self.out_neighbours(name, exchange))

    def living(self, peer: str, exchange: int, alive: Set[str]) -> tuple[str, ...]:
        """The living out-neighbours of this exchange. Never `peer` itself.

        Here the links to the dead are dropped; schedules that close gaps replace them. Either way a link
        between two living peers stays as it is when others die.
        """
        return tuple(name for name in self.out_neighbours(peer, exchange) if name in alive)

    def living_in(self, peer: str, exchange: int, alive: Set[str]) -> tuple[str, ...]:
        """The living peers that send to `peer` at exchange `exchange` of the sender; in roster order."""
        return tuple(name for name in self.in_neighbours(peer, exchange) if name in alive and name != peer)

    def edges(self, exchange: int) -> tuple[tuple[str, str], ...]:
        """All (sender, receiver) of one exchange, in roster order of the senders."""
        return tuple((name, other) for name in self.peers for other in self.out_neighbours(name, exchange))


@dataclass(frozen=True, kw_only=True)
class Circulant(Schedule):
    """The same hops from every place: rings, exponential graphs, the complete graph.

    `hops[k]` are the signed distances at exchange k (modulo the period). The sign is the direction in which the
    gap is closed when `replaces_dead` holds.
    """

    hops: tuple[tuple[int, ...], ...]
    replaces_dead: bool = False

    @property
    def period(self) -> int:
        """Number of different exchanges."""
        return len(self.hops)

    @property
    def closes_gaps(self) -> bool:
        """The value declared by the generator."""
        return self.replaces_dead

    def out_neighbours(self, peer: str, exchange: int) -> tuple[str, ...]:
        """The peers at the hops of this exchange; two hops to one peer count once."""
        return self._at(self.place(peer), self._hops(exchange))

    def in_neighbours(self, peer: str, exchange: int) -> tuple[str, ...]:
        """The peers at the same hops backwards; in roster order."""
        senders = self._at(self.place(peer), [-hop for hop in self._hops(exchange)])
        return tuple(sorted(senders, key=self.places.__getitem__))

    def living(self, peer: str, exchange: int, alive: Set[str]) -> tuple[str, ...]:
        """With `replaces_dead`, the next living peer from each hop on, in the hop's direction; else as in the base
        class."""
        if not self.closes_gaps:
            return super().living(peer, exchange, alive)
        here = self.place(peer)
        found = (self._first_living(here, hop, alive) for hop in self._hops(exchange))
        return tuple(dict.fromkeys(name for name in found if name is not None))

    def living_in(self, peer: str, exchange: int, alive: Set[str]) -> tuple[str, ...]:
        """With `replaces_dead`, the peers whose first living peer from a hop on is `peer`; else as in the base
        class."""
        if not self.closes_gaps:
            return super().living_in(peer, exchange, alive)
        here = self.place(peer)
        found = {name for hop in self._hops(exchange) for name in self._falling_to(here, hop, alive)}
        return tuple(sorted(found, key=self.places.__getitem__))

    def _hops(self, exchange: int) -> tuple[int, ...]:
        return self.hops[exchange % len(self.hops)]

    def _at(self, here: int, hops: Sequence[int]) -> tuple[str, ...]:
        places = dict.fromkeys((here + hop) % len(self.peers) for hop in hops)
        return tuple(self.peers[place] for place in places if place != here)

    def _first_living(self, here: int, hop: int, alive: Set[str]) -> str | None:
        direction = 1 if hop > 0 else -1
        for further in range(len(self.peers)):
            place = (here + hop + further * direction) % len(self.peers)
            if place != here and self.peers[place] in alive:
                return self.peers[place]
        return None

    def _falling_to(self, here: int, hop: int, alive: Set[str]) -> Iterator[str]:
        """The living senders whose hop leads to `here` across a gap: backwards over dead peers, up to the second living
        one (a sender skips itself, so not up to the first)."""
        n, direction = len(self.peers), 1 if hop > 0 else -1
        between: list[int] = []
        for further in range(n):
            between += [place for place in [(here - further * direction) % n] if further and self.peers[place] in alive]
            sender = (here - hop - further * direction) % n
            if len(between) > 1:
                return
            if sender != here and self.peers[sender] in alive and between in ([], [sender]):
                yield self.peers[sender]


@dataclass(frozen=True, kw_only=True)
class Listed(Schedule):
    """Links written out: `phases[k]` are the (sender, receiver) names of exchange k (modulo the period)."""

    phases: tuple[tuple[tuple[str, str], ...], ...] = field(repr=False)
    columns: int = 0
    """The length of a row, where the peers stand in rows (torus); 0 elsewhere. Only drawings use it."""

    @property
    def period(self) -> int:
        """Number of phases."""
        return len(self.phases)

    @cached_property
    def _out(self) -> list[dict[str, list[str]]]:
        return [self._grouped([(a, b) for a, b in phase]) for phase in self.phases]

    @cached_property
    def _in(self) -> list[dict[str, list[str]]]:
        return [self._grouped([(b, a) for a, b in phase]) for phase in self.phases]

    def _grouped(self, pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for key, other in sorted(pairs, key=lambda pair: self.place(pair[1])):
            groups.setdefault(key, []).append(other)
        return groups

    def out_neighbours(self, peer: str, exchange: int) -> tuple[str, ...]:
        """The listed receivers of `peer`, in roster order."""
        self.place(peer)
        return tuple(self._out[exchange % self.period].get(peer, ()))

    def in_neighbours(self, peer: str, exchange: int) -> tuple[str, ...]:
        """The listed senders to `peer`, in roster order."""
        self.place(peer)
        return tuple(self._in[exchange % self.period].get(peer, ()))


@dataclass(frozen=True, kw_only=True)
class Computed(Schedule):
    """Links from a function of (peer, exchange), such as a user's Python file; see load.py for its checks."""

    rule: Callable[[str, int], tuple[str, ...]] = field(repr=False)
    repeats_after: int | None = None
    """The period in exchanges, or None if the rule never repeats."""

    @property
    def period(self) -> int:
        """The declared period, else the number of exchanges that are judged."""
        return self.repeats_after or APERIODIC_EXCHANGES

    @property
    def periodic(self) -> bool:
        """Whether a period was declared."""
        return self.repeats_after is not None

    def out_neighbours(self, peer: str, exchange: int) -> tuple[str, ...]:
        """The answer of the rule. A declared period is enforced, whatever the rule returns for larger numbers."""
        self.place(peer)
        return self.rule(peer, exchange % self.repeats_after if self.repeats_after else exchange)
