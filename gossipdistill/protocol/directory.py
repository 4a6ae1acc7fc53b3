"""The roster as the network sees it: one frozen object for all peers of a process.

What a peer knows beyond it, or differently, is in its own table. So memory grows with the differences, not with n x n.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from types import MappingProxyType

from gossipdistill.ids import PeerName
from gossipdistill.presence import Contact


class Directory(Sequence[Contact]):
    """Contacts in the order of their places, found by index or by name. Never changed once made."""

    __slots__ = ("_by_name", "_contacts", "names", "places")

    def __init__(self, contacts: Iterable[Contact] = ()) -> None:
        self._contacts = tuple(contacts)
        self._by_name = {contact.name: contact for contact in self._contacts}
        self.names = tuple(contact.name for contact in self._contacts)
        self.places: Mapping[PeerName, int] = MappingProxyType({c.name: c.place for c in self._contacts})

    def __len__(self) -> int:
        return len(self._contacts)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._contacts[index]

    def get(self, name: str) -> Contact | None:
        """The contact of this name, if the roster has it."""
        return self._by_name.get(PeerName(name))


class Present(Set[PeerName]):
    """All names of a roster except those known to be absent: a set whose memory grows with the absent ones only."""

    __slots__ = ("_absent", "_everybody")

    def __init__(self, everybody: Mapping[PeerName, int], absent: frozenset[PeerName]) -> None:
        self._everybody, self._absent = everybody, absent

    def __contains__(self, name: object) -> bool:
        return name in self._everybody and name not in self._absent

    def __iter__(self) -> Iterator[PeerName]:
        return (name for name in self._everybody if name not in self._absent)

    def __len__(self) -> int:
        return len(self._everybody) - len(self._absent)

    @classmethod
    def _from_iterable(cls, names: Iterable[PeerName]) -> frozenset[PeerName]:  # type: ignore[override]
        return frozenset(names)

    def __repr__(self) -> str:
        return f"Present({len(self)} of {len(self._everybody)})"


class Rotation:
    """Visits any sequence in an order of its own without storing that order: index = first + turn x stride mod n.

    Each round visits every name once, by a stride coprime to n that is drawn anew for each round. Names added at the
    end of the sequence are in the next round.
    """

    __slots__ = ("_chance", "_first", "_left", "_size", "_stride")

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._size = self._left = self._first = 0
        self._stride = 1

    def next(self, names: Sequence[PeerName]) -> PeerName:
        """The next name; the sequence must not be empty."""
        if self._left == 0 or self._size > len(names):
            self._size = self._left = len(names)
            self._first, self._stride = self._chance.randrange(self._size), self._coprime(self._size)
        self._left -= 1
        self._first = (self._first + self._stride) % self._size
        return names[self._first]

    def _coprime(self, size: int) -> int:
        if size <= 2:
            return 1
        while math.gcd(stride := self._chance.randrange(1, size), size) != 1:
            pass
        return stride
