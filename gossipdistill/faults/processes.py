"""The effect of a plan on processes, as a schedule. Pure; its caller sends the signals, or simulates them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from gossipdistill.faults.kinds import ClockJump, Kill, Pause, ProcessFault, Restart, Slow
from gossipdistill.faults.plan import FaultPlan


class ActKind(StrEnum):
    """An action on a process."""

    PAUSE = "pause"
    RESUME = "resume"
    KILL = "kill"
    LEAVE = "leave"
    """Ask it to end: it sends its last message and saves."""
    RESTART = "restart"
    """Start it again."""
    SLOW = "slow"
    """From now on a step takes `amount` times as long; 1 is its normal pace."""
    CLOCK_JUMP = "clock_jump"
    """Its clock jumps by `amount` seconds."""


class ProcessAct(NamedTuple):
    """An act on a process, due `at_s` seconds after the start; `fault` is the place in the plan of its fault."""

    at_s: float
    peer: str
    kind: ActKind
    amount: float = 0.0
    fault: int = 0


class ProcessFaults:
    """The acts of a plan in order, each returned once. An act on a process that is down is left out."""

    def __init__(self, plan: FaultPlan, names: Sequence[str]) -> None:
        acts = [
            act
            for number, fault in plan.process_faults()
            for peer in plan.whom(number, names)
            for act in _acts(fault, peer, number)
        ]
        acts.sort(key=lambda act: (act.at_s, act.fault))
        self._acts = list(_possible(acts))
        self._next = 0

    def due(self, now_s: float) -> list[ProcessAct]:
        """The acts due by `now_s`, oldest first, that were not returned before."""
        first = self._next
        while self._next < len(self._acts) and self._acts[self._next].at_s <= now_s:
            self._next += 1
        return self._acts[first : self._next]

    def left(self) -> Sequence[ProcessAct]:
        """The acts that were not returned yet."""
        return self._acts[self._next :]

    def next_s(self) -> float:
        """The time of the next act; infinite when none is left."""
        return self._acts[self._next].at_s if self._next < len(self._acts) else math.inf


def _acts(fault: ProcessFault, peer: str, number: int) -> list[ProcessAct]:
    begin_s, end_s = fault.begin_s, fault.end_s
    match fault:
        case Slow():
            acts = [ProcessAct(begin_s, peer, ActKind.SLOW, fault.factor, number)]
            ends = [ProcessAct(end_s, peer, ActKind.SLOW, 1.0, number)]
        case Pause():
            acts = [ProcessAct(begin_s, peer, ActKind.PAUSE, fault=number)]
            ends = [ProcessAct(end_s, peer, ActKind.RESUME, fault=number)]
        case Kill() | Restart():
            how = ActKind.KILL if isinstance(fault, Kill) else ActKind.LEAVE
            acts = [ProcessAct(begin_s, peer, how, fault=number)]
            ends = [ProcessAct(end_s, peer, ActKind.RESTART, fault=number)]
        case ClockJump():
            return [ProcessAct(begin_s, peer, ActKind.CLOCK_JUMP, fault.seconds, number)]
        case _:
            raise TypeError(f"{fault!r} happens to no process")
    return acts if math.isinf(end_s) else acts + ends


def _possible(acts: Iterable[ProcessAct]) -> Iterable[ProcessAct]:
    """The acts that can happen: drawn peers may be hit twice, so a process that is down is not killed again, nor
    started by another fault's restart."""
    down_by: dict[str, int] = {}
    paused_by: dict[str, int] = {}
    for act in acts:
        peer = act.peer
        match act.kind:
            case ActKind.RESTART if down_by.get(peer) == act.fault:
                del down_by[peer]
            case ActKind.RESUME if paused_by.get(peer) == act.fault and peer not in down_by:
                del paused_by[peer]
            case ActKind.KILL | ActKind.LEAVE if peer not in down_by:
                down_by[peer] = act.fault
                paused_by.pop(peer, None)
            case ActKind.PAUSE if peer not in down_by and peer not in paused_by:
                paused_by[peer] = act.fault
            case ActKind.SLOW:
                pass  # holds for a later start of the process too
            case ActKind.CLOCK_JUMP if peer not in down_by:
                pass
            case _:
                continue
        yield act
