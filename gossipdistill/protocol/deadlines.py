"""Deadlines of many keys: the earliest in constant time, changes in logarithmic time."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, ItemsView
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

NEVER = float("inf")


@dataclass(slots=True)
class Deadlines(Generic[Key]):
    """One deadline per key, in seconds of the owner's clock; `NEVER` is none.

    A moved deadline leaves its old entry in the heap. The entry is dropped when it comes to the top, or with all other
    outdated ones once they outnumber the valid ones.
    """

    _due_s: dict[Key, float] = field(default_factory=dict)
    _heap: list[tuple[float, int, Key]] = field(default_factory=list)
    _entries: int = 0

    def set(self, key: Key, due_s: float) -> None:
        """Move the deadline of `key`."""
        if self._due_s.get(key, NEVER) == due_s:
            return
        if due_s == NEVER:
            del self._due_s[key]
            return
        self._due_s[key] = due_s
        self._entries += 1  # so that equal deadlines never compare their keys
        heapq.heappush(self._heap, (due_s, self._entries, key))
        if len(self._heap) > 2 * len(self._due_s) + 16:
            self._heap = [entry for entry in self._heap if self._due_s.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def next_s(self) -> float:
        """The earliest deadline."""
        while self._heap and self._due_s.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def items(self) -> ItemsView[Key, float]:
        """Each key that has a deadline, with it."""
        return self._due_s.items()

    def pop_due(self, now: float) -> list[Key]:
        """The keys whose deadline has come, earliest first; they have none afterwards."""
        keys: list[Key] = []
        while self.next_s() <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due_s[key]
            keys.append(key)
        return keys
