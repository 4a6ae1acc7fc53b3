"""The faults of a plan that act inside one worker: slowness, clock jumps and bent messages.

Signals come from the launcher (chaos.py). The faults here depend only on the time, so that a restarted worker is as
slow as the plan says from its first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gossipdistill.events import Event, EventKind
from gossipdistill.faults import ActKind, FaultPlan, LinkFaults, ProcessFaults


class InjectedFaults:
    """One worker, with or without a plan. `began_s` returns what `clock` read at the start of the run, once known.

    Both threads of a worker may call it at any time."""

    def __init__(
        self,
        plan: FaultPlan | None,
        names: Sequence[str],
        me: str,
        began_s: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        plan = plan or FaultPlan()
        self._began_s, self._real = began_s, clock
        acts = [act for act in ProcessFaults(plan, names).due(float("inf")) if act.peer == me]
        self._paces = [act for act in acts if act.kind is ActKind.SLOW]
        self._jumps = [act for act in acts if act.kind is ActKind.CLOCK_JUMP]
        self._told = 0
        self.links = LinkFaults(plan, names) if plan.link_faults() else None

    def elapsed_s(self) -> float:
        """Seconds since the start of the run; negative before it."""
        began_s = self._began_s()
        return -1.0 if began_s is None else self._real() - began_s

    def clock(self) -> float:
        """The clock that protocol and learner read: monotonic except for the plan's jumps."""
        now = self._real()
        if not self._jumps:
            return now
        elapsed_s = self.elapsed_s()
        return now + sum(jump.amount for jump in self._jumps if jump.at_s <= elapsed_s)

    def slowdown(self) -> float:
        """The factor by which a step takes longer now."""
        if not self._paces:
            return 1.0
        elapsed_s = self.elapsed_s()
        return next((pace.amount for pace in reversed(self._paces) if pace.at_s <= elapsed_s), 1.0)

    def news(self) -> list[Event]:
        """The faults that have begun or ended since the last call, as events of this peer."""
        happened = sorted(self._paces + self._jumps)
        elapsed_s, first = self.elapsed_s(), self._told
        while self._told < len(happened) and happened[self._told].at_s <= elapsed_s:
            self._told += 1
        return [
            Event(EventKind.FAULT, self._real(), "", f"my clock jumps by {act.amount:g} s")
            if act.kind is ActKind.CLOCK_JUMP
            else Event(EventKind.FAULT, self._real(), "", _pace_in_words(act.amount))
            for act in happened[first : self._told]
        ]

    def fired(self) -> dict[str, int]:
        """The number of this peer's messages that each fault has bent, by the fault's index in the plan (a string, as
        JSON keys are)."""
        return {} if self.links is None else {str(number): count for number, count in dict(self.links.counts).items()}


def _pace_in_words(factor: float) -> str:
    return "at my own pace again" if factor == 1.0 else f"each step takes {factor:g} times as long"
