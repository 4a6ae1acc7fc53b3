"""One peer's training, stepped from outside: take, mix, forward, backward, step, publish. It never waits.

The owner calls `step(now)` and decides how time passes between the calls (real processes sleep, a simulator jumps).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, Neighbourhood
from gossipdistill.strategies.base import Delivery, Strategy, View
from gossipdistill.tasks import Task
from gossipdistill.topology import Schedule

SILENCE_S = 4.0
"""Training for so long without an exchange is said aloud, with the reason: seen within five seconds."""


@dataclass(slots=True)
class Worker:
    """Puts a learner, a strategy and a mailbox together. `schedule` is over places, as texts "0", "1", ..., or over
    names, as `labels` says: the label of the peer at each place."""

    learner: Learner
    task: Task
    strategy: Strategy
    schedule: Schedule
    mailbox: Mailbox
    cadence: Cadence
    draws: Draws
    cosine: bool = False
    task_loss: float = float("nan")
    _state: Any = None
    _x: Tensor = field(default_factory=lambda: torch.empty(0))
    _y: Tensor = field(default_factory=lambda: torch.empty(0))
    _weights: dict[tuple[int, frozenset[str]], float] = field(default_factory=dict)
    _began_s: float | None = None
    _silent: bool = False
    _out: tuple[Neighbourhood, int, tuple[PeerName, ...]] | None = None

    def __post_init__(self) -> None:
        self._x, self._y = (part.to(self.learner.device) for part in self.task.train)
        self._state = self.strategy.init(self.learner)

    def step(self, now: float, progress: float = 0.0) -> None:
        """One optimiser step at clock reading `now` (s); posts and takes on the way.

        `progress` is how much of the run is over, 0 to 1, by steps or by time: what learning rates follow.
        """
        learner, strategy = self.learner, self.strategy
        learner.now_s = now
        if self.cosine:
            self._set_rate(progress)
        if self._began_s is None:
            self._began_s = now
        arrivals = self.mailbox.take()
        neighbourhood = self.mailbox.neighbourhood()
        view = self._view(neighbourhood, arrivals, now)
        for parcel in strategy.mix(self._state, learner, arrivals, view):
            self.mailbox.post(parcel)

        rows = self.draws.at(learner.step)
        learner.x, learner.y = self._x[rows], self._y[rows]
        learner.optimizer.zero_grad(set_to_none=True)
        learner.outputs = learner.forward(learner.x)
        loss = self.task.loss(learner.outputs, learner.y)
        self.task_loss = loss.item()
        term = strategy.loss(self._state, learner)
        if term.value is not None and term.apart:
            term.value.backward()  # type: ignore[no-untyped-call]
        elif term.value is not None:
            loss = loss + term.value
        loss.backward()  # type: ignore[no-untyped-call]
        strategy.adjust(self._state, learner)
        learner.optimizer.step()
        learner.step += 1

        if self.cadence.due(learner.step, now):
            for parcel in strategy.publish(self._state, learner, view):
                self.mailbox.post(parcel)
        self.mailbox.report_progress(learner.step, done=False)

    def publish_final(self, now: float) -> None:
        """Leave the final state with the neighbours, for those who still learn."""
        self.learner.now_s = now
        view = self._view(self.mailbox.neighbourhood(), [], now)
        for parcel in self.strategy.publish(self._state, self.learner, view):
            self.mailbox.post(parcel)

    def evaluate(self) -> tuple[Tensor, dict[str, float]]:
        """(outputs [V, ...] for the validation inputs on the CPU, {"loss": ..., and the task's metrics})."""
        x, y = self.task.validation
        outputs = self.learner.predict(self.learner.model, x.to(self.learner.device)).cpu()
        figures = {"loss": float(self.task.loss(outputs, y))}
        figures |= {name: float(metric(outputs, y)) for name, metric in self.task.metrics.items()}
        return outputs, figures

    def _set_rate(self, progress: float) -> None:
        """lr = initial lr * (1 + cos(pi * progress)) / 2 (Loshchilov and Hutter 2017, 1608.03983, equation 5)."""
        for group in self.learner.optimizer.param_groups:
            initial = group.setdefault("initial_lr", group["lr"])
            group["lr"] = initial * (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    # --- alarms --------------------------------------------------------------------------------------------------

    def check_exchange(self, now: float) -> Event | None:
        """An event when training goes on without gossip for `SILENCE_S`, and one when gossip begins again."""
        if self.strategy.delivery is not Delivery.STATE or self._began_s is None:
            return None
        last_s = max((link.last_exchange_s or 0.0 for link in self.learner.ledger.links.values()), default=0.0)
        silent_s = now - max(last_s, self._began_s)
        if self._silent and silent_s < SILENCE_S:
            self._silent = False
            return Event(EventKind.EXCHANGING, now, "", "learning from neighbours again")
        if not self._silent and silent_s >= SILENCE_S and len(self.schedule.peers) > 1:
            self._silent = True
            return Event(EventKind.NO_EXCHANGE, now, "", self._why_silent(silent_s))
        return None

    def _why_silent(self, silent_s: float) -> str:
        head = f"training but not gossiping: nothing new of a neighbour was used for {silent_s:.0f} s; "
        neighbourhood = self.mailbox.neighbourhood()
        if self.learner.ledger.quarantined:
            refused = ", ".join(f"{key} x{count}" for key, count in self.learner.ledger.quarantined.items())
            return head + f"payloads were refused ({refused})"
        if not neighbourhood.alive:
            others = "; ".join(f"{name} {status}" for name, status in sorted(neighbourhood.statuses.items()))
            return head + f"nobody is there ({others or 'no other peer is known'})"
        if neighbourhood.alive <= neighbourhood.done:
            return head + "all living neighbours are done training"
        names = ", ".join(sorted(neighbourhood.alive))
        return head + f"{names} live, but have not published anything new, or none is my neighbour in this topology"

    # --- the view ------------------------------------------------------------------------------------------------

    def _view(self, neighbourhood: Neighbourhood, arrivals: list[Arrival], now: float) -> View:
        """The snapshot for this step: who gets my next publication, and what weight each arrival has."""
        exchange = self.cadence.exchanges
        if not arrivals and self._out is not None and self._out[0] is neighbourhood and self._out[1] == exchange:
            return View(exchange, now, self._out[2])
        label_of, name_of = self._labels(neighbourhood)
        alive = frozenset(label_of[name] for name in neighbourhood.alive if name in label_of)
        me = label_of[self.learner.name]
        out = tuple(PeerName(name_of[label]) for label in self.schedule.living(me, exchange, alive))
        self._out = (neighbourhood, exchange, out)
        in_weights = {str(arrival.sender): self._in_weight(me, arrival.exchange, alive) for arrival in arrivals}
        return View(exchange, now, out, in_weights)

    def _labels(self, neighbourhood: Neighbourhood) -> tuple[dict[str, str], dict[str, str]]:
        """Names to labels of the schedule and back. With a roster they are the same; without, a label is a place."""
        if self.learner.name in self.schedule.peers:
            same = {name: name for name in self.schedule.peers}
            return same, same
        label_of = {name: self.schedule.peers[place] for name, place in neighbourhood.places.items()}
        label_of.setdefault(PeerName(self.learner.name), self.schedule.peers[self.learner.place])
        return {str(name): label for name, label in label_of.items()}, {v: str(k) for k, v in label_of.items()}

    def _in_weight(self, me: str, exchange: int, alive: frozenset[str]) -> float:
        """1 / (1 + living in-neighbours of me at the sender's exchange)."""
        key = (exchange % self.schedule.period if self.schedule.periodic else exchange, alive)
        if key not in self._weights:
            if len(self._weights) > 256:
                self._weights.clear()
            senders = self.schedule.living_in(me, exchange, alive)
            self._weights[key] = 1.0 / (1 + max(len(senders), 1))
        return self._weights[key]


def build_optimizer(name: str, model: nn.Module, lr: float, momentum: float, decay: float) -> torch.optim.Optimizer:
    """The optimiser of `[train]`: sgd, adam or adamw."""
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=lr, betas=(momentum, 0.999), weight_decay=decay)
