"""How a peer leaves a run that goes on without it: its mass goes to a neighbour, and it waits a moment for the answer.

A peer that ends because its training is over keeps its mass, as its model is its result. One that is asked to end has
saved its model, and what it holds of the run's conserved sums is of no more use to itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.worker import Worker

WAIT_S = 1.0
"""For the answer of whoever was given the mass."""
LOOK_S = 0.002
"""Between two looks."""


@dataclass(slots=True)
class Parting:
    """The end of one worker, looked at again and again until it is `over`. Times are of the worker's clock."""

    worker: Worker
    began_s: float
    heir: PeerName | None = None
    weight: float = 0.0
    over: bool = False
    _ended_s: float = 0.0
    _passed_over: set[PeerName] = field(default_factory=set)

    def __post_init__(self) -> None:
        # So that nobody sends me anything any more, as to one that has done all its steps.
        self.worker.mailbox.report_progress(self.worker.learner.step, done=True)

    def look(self, now: float) -> bool:
        """Hand over what there is, to the next one if it was refused; whether that is settled, or time is up."""
        if not self.over:
            for parcel in self.worker.hand_over(now, self._passed_over):
                self.heir, self.weight = parcel.to[0], parcel.weight
            self.over = self.worker.settled() or now - self.began_s >= WAIT_S
            self._ended_s = now
        return self.over

    def event(self, at_s: float) -> Event | None:
        """What became of the mass, at `at_s` of the clock that events are told by; None where nobody was given any."""
        if self.heir is None:
            return None
        took_s = self._ended_s - self.began_s
        mine = f"all my mass, of weight {self.weight:.4g}"
        detail: dict[str, str | int | float] = {"weight": self.weight, "seconds": round(took_s, 3)}
        if not self.worker.settled():
            reason = (
                f"{mine}, was sent, and not settled within {took_s:.1f} s: if it arrives it is used, else it is lost"
            )
        elif self.worker.held_weight() > 0.0:
            reason = f"{mine}, was refused by all that I can reach; it ends with this process"
        else:
            reason = f"{mine}, was taken within {took_s:.3f} s"
        return Event(EventKind.HANDED_OVER, at_s, self.heir, reason, detail)
