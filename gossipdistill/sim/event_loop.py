"""Virtual time: one heap of future events, and the observers.

The heap determines all order: time first, then the order of insertion.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

from gossipdistill.sim.observer import Hooks, Observer, hooks

Handler = Callable[[Any, Any], None]


class EventLoop:
    """Advances virtual time. `now` is seconds since the start of the world."""

    def __init__(self, observers: Iterable[Observer], tick_s: float) -> None:
        self.now = 0.0
        self.events_handled = 0
        self.learner_s = 0.0
        """The time that the learners have taken, by a real clock, in seconds."""
        self.observers: list[Observer] = []
        self.hooks = Hooks()
        self._tick_s = tick_s
        self._heap: list[tuple[float, int, Handler, Any, Any]] = []
        self._sequence = 0
        self.push(tick_s, self._tick, None, None)
        self.watch(observers)

    def watch(self, observers: Iterable[Observer]) -> None:
        """Add observers."""
        self.observers += observers
        self.hooks.look_for(self.observers)

    def run_until(self, until_s: float) -> None:
        """Advance to `until_s` virtual seconds."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until_s:
            self.now, _, handle, subject, detail = pop(heap)
            self.events_handled += 1
            handle(subject, detail)
        self.now = max(self.now, until_s)

    def run_for(self, seconds: float) -> None:
        """Advance by `seconds`."""
        self.run_until(self.now + seconds)

    def finish(self) -> None:
        """Tell the observers that the run has ended."""
        for hook in hooks(self.observers, "at_end"):
            hook(self.now, self)

    def at(self, at_s: float, do: Callable[[], object]) -> None:
        """Call `do` at time `at_s`."""
        self.push(at_s, self._scripted, do, None)

    def push(self, at_s: float, handle: Callable[[Any, Any], None], subject: object, detail: object) -> None:
        """Call `handle(subject, detail)` at time `at_s`."""
        self._sequence += 1
        heapq.heappush(self._heap, (at_s, self._sequence, handle, subject, detail))

    def _scripted(self, do: Callable[[], object], detail: object) -> None:
        do()

    def _tick(self, subject: object, detail: object) -> None:
        self.push(self.now + self._tick_s, self._tick, None, None)
        for hook in self.hooks.on_tick:
            hook(self.now, self)
