"""Equal compute: how many rows pass through models in one step of a peer.

The rule: a row that goes forward through a model counts 1, and 2 more if its gradient comes back (the backward pass has
two products where the forward pass has one). Counted are the peer's own batch, every teacher that it asks about that
batch, the second pass over transfer rows, and the predictions that it makes to publish them. Not counted, as it does
not grow with the rows: the optimizer's step, encoding, mixing; and judging, which no method needs in order to train.
"""

from __future__ import annotations

from dataclasses import dataclass

FORWARD, BACKWARD = 1, 2


@dataclass(frozen=True)
class Step:
    """What a peer computes in one step: `batch` rows of its own, `teachers` models asked about them, `transfer_batch`
    rows of a second pass, and every `every_steps` steps `published_rows` predictions."""

    batch: int
    teachers: int = 0
    transfer_batch: int = 0
    published_rows: int = 0
    every_steps: int = 1

    @property
    def passes(self) -> float:
        """Rows forward and back in one step, on the average."""
        trained = (FORWARD + BACKWARD) * (self.batch + self.transfer_batch)
        return trained + FORWARD * (self.teachers * self.batch + self.published_rows / self.every_steps)


def steps_within(passes: float, step: Step) -> int:
    """How many steps a budget of so many passes allows."""
    return int(passes // step.passes)
