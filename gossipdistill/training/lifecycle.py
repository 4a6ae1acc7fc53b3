"""The life of one peer, from before its first step to its end, in any loop: a worker process with real time,
or a simulator with virtual time.

    CATCHING_UP -> TRAINING -> FINISHED -> SERVING
         |             |          |           |
         +-------------+----------+-----------+--> LEAVING -> GONE

`look` moves it on, and never waits. Between FINISHED and SERVING the owner judges and saves the model.

Rules of this file
1. A peer that has finished leaves its final state with its neighbours, and serves those that still train.
2. A peer that is asked to leave before it has finished gives its mass away; one that has finished keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from gossipdistill.events import Event
from gossipdistill.strategies.base import Delivery
from gossipdistill.training.ending import finish, publish_final, serve
from gossipdistill.training.joining import LOOK_S as JOINING_LOOK_S
from gossipdistill.training.joining import Joining
from gossipdistill.training.leaving import LOOK_S as LEAVING_LOOK_S
from gossipdistill.training.leaving import Leaving
from gossipdistill.training.worker import Worker

ROUND_LOOK_S = 0.0005
"""A round of a lockstep strategy ends at most this much late; neighbours on one machine answer within a millisecond."""
SERVING_LOOK_S = 0.02


class Phase(Enum):
    """Where a peer stands in its life."""

    CATCHING_UP = auto()
    TRAINING = auto()
    FINISHED = auto()
    SERVING = auto()
    LEAVING = auto()
    GONE = auto()


@dataclass(slots=True)
class Lifecycle:
    """Times are readings of the clock that the worker gets. `steps`: the number of steps of the run, None without."""

    worker: Worker
    steps: int | None
    phase: Phase = Phase.TRAINING
    _joining: Joining | None = None
    _leaving: Leaving | None = None

    def catch_up(self, now: float, within_s: float) -> None:
        """Ask others for their model before the first step, for `within_s` at most."""
        self.phase, self._joining = Phase.CATCHING_UP, Joining(self.worker.gossip, now, within_s)

    def look(self, now: float, share: float = 0.0, is_over: bool = False) -> float | None:
        """Do what is due. Returns the seconds until the next look, or None after a step, whose pace the owner sets.

        Args:
            share: how much of the run is over, 0 to 1; learning rates follow it.
            is_over: whether the run is over for another reason than its steps.
        """
        if self.phase is Phase.CATCHING_UP:
            assert self._joining is not None
            if not self._joining.look(now):
                return JOINING_LOOK_S
            self.phase = Phase.TRAINING
            return 0.0
        if self.phase is Phase.TRAINING:
            return self._train(now, share, is_over)
        if self.phase is Phase.SERVING:
            serve(self.worker.gossip, now)
            return SERVING_LOOK_S
        if self.phase is Phase.LEAVING:
            assert self._leaving is not None
            if self._leaving.look(now):
                self.phase = Phase.GONE
        return LEAVING_LOOK_S

    def finish(self, now: float) -> None:
        """The training is over; what came meanwhile is still absorbed."""
        finish(self.worker.gossip, now)
        self.phase = Phase.FINISHED

    def serve(self, now: float) -> None:
        """Rule 1."""
        publish_final(self.worker.gossip, now)
        self.worker.gossip.endpoint.mailbox.report_progress(self.worker.learner.step, done=True)
        self.phase = Phase.SERVING

    def leave(self, now: float, has_mass: bool = True) -> None:
        """Rule 2. `has_mass`: whether it holds any of the run's; a process that has made no step does not."""
        gives = self.phase in (Phase.CATCHING_UP, Phase.TRAINING)
        if gives:
            finish(self.worker.gossip, now)
        gives = gives and has_mass and self.worker.gossip.strategy.delivery is Delivery.MASS
        self.phase, self._leaving = Phase.LEAVING, Leaving(self.worker.gossip, now, over=not gives)

    def event(self, at_s: float) -> Event | None:
        """What became of the mass of a peer that has left, at `at_s` of the clock of events."""
        return self._leaving.event(at_s) if self._leaving is not None else None

    def _train(self, now: float, share: float, is_over: bool) -> float | None:
        """Make the next step, unless the training is over or a round waits for a peer."""
        learner = self.worker.learner
        ends = is_over or self._has_all_steps()
        if learner.stop_wanted or (ends and not (is_over and self._ends_by_agreement)):
            self.finish(now)
            return 0.0
        learner.stop_wanted = ends
        if self.worker.gossip.awaited(now):
            return ROUND_LOOK_S
        self.worker.step(now, share)
        if self._has_all_steps():
            self.finish(now)
        return None

    def _has_all_steps(self) -> bool:
        return self.steps is not None and self.worker.learner.step >= self.steps

    @property
    def _ends_by_agreement(self) -> bool:
        """Whether the peers end together, one step after the first of them has run out of time."""
        return self.worker.gossip.strategy.delivery is Delivery.COLLECTIVE
