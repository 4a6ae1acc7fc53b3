"""How a peer joins a run that is in progress: it asks a donor for its model, judges it on its own data, then begins.

Until then it publishes nothing, and mass that arrives is refused. It waits for chunks only as long as some arrive, and
for all of them `within_s` at most; then it begins with what it has. No step waits: this is before the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.cloning import frozen_clone
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import (
    PayloadRefusedError,
    architecture_hash,
    layout_of,
    load_arrays,
    model_arrays,
    payload_bytes,
    unpack_model,
)
from gossipdistill.learning.state_transfer import TOKENS, Donor, Fetch
from gossipdistill.messages import Payload
from gossipdistill.strategies import Initialisation
from gossipdistill.training.gossip import Gossip

LOOK_S = 0.005
"""Two looks are this time (s) apart."""
PROBE_ROWS_MAX = 256
"""A donor's model is judged on at most this number of my own examples, spread over all of them."""


def give_to_newcomers(gossip: Gossip, bytes_per_s: float | None) -> bool:
    """Let this peer give its model to newcomers, where all share weights that began alike. Returns whether it does.

    Args:
        bytes_per_s: the most that it gives; None: nothing.
    """
    needs = gossip.strategy.needs
    alike = needs.alike_models and needs.initialisation is Initialisation.IDENTICAL
    if bytes_per_s is None or not alike or not gossip.strategy.delivery.gossips:
        return False
    gossip.endpoint.donor = Donor(architecture_hash(gossip.learner.model, gossip.learner.shared), bytes_per_s)
    return True


def is_newcomer(checkpoint: Checkpoint | None, unix_s: float, older_s: float) -> bool:
    """Whether a process with this checkpoint asks for a model: if it has none, or one that is more than `older_s` old,
    by this machine's time of day, which decides nothing else."""
    return checkpoint is None or unix_s - checkpoint.progress.get("saved_unix_s", 0.0) > older_s


@dataclass(slots=True)
class Joining:
    """One peer before its first step; `look` is called until it is `over`. `began_s` is a reading of the clock that
    `look` gets."""

    gossip: Gossip
    began_s: float
    within_s: float
    adopted: bool = False
    over: bool = False
    fetch: Fetch = field(init=False)

    def __post_init__(self) -> None:
        learner = self.gossip.learner
        model, shared = learner.model, learner.shared
        nbytes = payload_bytes(model_arrays(model, shared), "raw")
        token = int(self.began_s * 1e6) % TOKENS
        self.fetch = Fetch(architecture_hash(model, shared), nbytes, learner.step, token)

    def look(self, now: float) -> bool:
        """Ask, take and judge. Returns whether training may begin."""
        if self.over:
            return True
        fetch, gossip, ledger = self.fetch, self.gossip, self.gossip.learner.ledger
        gossip.learner.now_s = now
        chunks = gossip.endpoint.state_chunks()
        gossip.give(now)
        for arrival in chunks:
            fetch.take(arrival, now)
        if fetch.whole:
            self._judge(now)
        if not self.adopted:
            gossip.endpoint.post(fetch.look(now, self._donors()))
        for donor, reason in fetch.news:
            ledger.note(EventKind.DONOR_PASSED_OVER, donor, reason)
        fetch.news.clear()
        late = now - self.began_s >= self.within_s
        self.over = self.adopted or fetch.over or late
        if self.over and not self.adopted and (fetch.passed_over or late):
            why = f"none came within {self.within_s:g} s" if late else "no donor has one that I can use"
            ledger.note(EventKind.NOT_ADOPTED, "", f"{why}; begins with its own model")
        return self.over

    def _judge(self, now: float) -> None:
        """Adopt what came unless it is worse than mine, on my own examples."""
        fetch, learner = self.fetch, self.gossip.learner
        assert fetch.donor is not None
        layout = layout_of(model_arrays(learner.model, learner.shared), "raw")
        try:
            theirs = unpack_model(Payload(layout, memoryview(fetch.body)), learner.model, learner.shared)
        except PayloadRefusedError as refused:
            learner.ledger.quarantine(fetch.donor, refused.reason, str(refused))
            fetch.pass_over(f"its state is refused: {refused}", now)
            return
        donors = frozen_clone(learner.model)
        load_arrays(donors, theirs)
        loss, mine = _probe(learner, donors), _probe(learner, learner.model)
        figures = f"its loss on {PROBE_ROWS_MAX} examples of mine at most is {loss:.4g}, mine {mine:.4g}"
        if math.isfinite(loss) and not mine < loss:
            self._adopt(theirs)
            self.adopted = True
            learner.ledger.note(EventKind.ADOPTED, fetch.donor, figures, bytes=fetch.nbytes)
        else:
            fetch.pass_over(f"{figures}: not adopted", now)

    def _donors(self) -> tuple[PeerName, ...]:
        """The living peers that still train, neighbours of the next exchanges first."""
        done = self.gossip.endpoint.mailbox.neighbourhood().done
        return tuple(name for name in self.gossip.endpoint.coming() if name not in done)

    def _adopt(self, arrays: Mapping[str, Tensor]) -> None:
        """Begin with this model and no earlier state: mass has weight 1, the optimizer is new."""
        gossip = self.gossip
        load_arrays(gossip.learner.model, arrays)
        gossip.learner.optimizer.state.clear()
        gossip.state = gossip.strategy.init(gossip.learner)


def _probe(learner: Learner, model: nn.Module) -> float:
    """The task's loss of a model on examples of mine; no step, no gradient."""
    assert learner.examples is not None
    assert learner.criterion is not None
    x, y = learner.examples
    rows = torch.linspace(0, len(x) - 1, min(len(x), PROBE_ROWS_MAX)).long()
    return float(learner.criterion(learner.predict(model, x[rows]), y[rows]))
