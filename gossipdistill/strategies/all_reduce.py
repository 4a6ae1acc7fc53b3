"""Synchronous data parallelism, as the baseline: torch's own DistributedDataParallel over gloo.

The one file that may import torch.distributed.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from datetime import timedelta
from typing import final

import torch
import torch.distributed as distributed
from pydantic import Field
from torch.nn.parallel import DistributedDataParallel

from gossipdistill.learning.learner import Learner
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies import base
from gossipdistill.strategies.base import (
    NOTHING,
    Delivery,
    Initialisation,
    LossTerm,
    Needs,
    Rounds,
    Strategy,
    View,
)


class Options(base.Options):
    """Keys of `[strategy]` for this strategy."""

    rendezvous: str = ""
    """Where the processes find one another: `tcp://HOST:PORT` of the first peer. `run` and `compare` choose a place."""
    timeout_s: float = Field(default=60.0, gt=0)
    """The most time of one collective operation; one that takes longer ends the run."""


@dataclass(slots=True)
class State:
    """Bytes that one step sends, by the ring's formula, and whose gradients entered it."""

    bytes_per_step: float
    others: tuple[str, ...]


@final
class AllReduce(Strategy):
    """x <- x - step(mean_i grad f_i(x)): every peer waits for every other at every step.

    Publishes: nothing through our sockets; gloo moves 2 (n - 1) / n * 4 P bytes per peer and step (ring all-reduce,
    Patarasik and Yuan 2009, section 3), which is what the table shows.
    Conserves: all models stay equal, bit for bit.
    When stale: it cannot be; the slowest peer sets the pace, and a lost peer ends the run of all.
    """

    name = "all_reduce"
    rounds = Rounds.LOCKSTEP
    delivery = Delivery.COLLECTIVE
    needs = Needs(alike_models=True, initialisation=Initialisation.IDENTICAL)
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        distributed.init_process_group(
            "gloo",
            init_method=self.options.rendezvous,
            rank=learner.place,
            world_size=len(learner.peers),
            timeout=timedelta(seconds=self.options.timeout_s),
        )
        atexit.register(_leave)
        learner.forward_module = DistributedDataParallel(learner.model)
        parameters = sum(parameter.numel() for parameter in learner.model.parameters())
        others = tuple(name for name in learner.peers if name != learner.name)
        return State(2 * len(others) / len(learner.peers) * 4 * parameters, others)

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        return NOTHING

    def adjust(self, state: State, learner: Learner) -> None:
        learner.ledger.collective_bytes += state.bytes_per_step
        for other in state.others:
            learner.ledger.exchanged(other, learner.now_s)
            learner.ledger.applied(other, 0, 0.0)
        if learner.steps_total is None:
            # A run by time ends at different steps on different peers: they agree, else the slower ones would wait
            # for ever for those that have ended. A run by steps ends together anyway and is spared this.
            wanted = torch.tensor([float(learner.stop_wanted)])
            distributed.all_reduce(wanted)
            learner.stop_wanted = bool(wanted.item() > 0)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        return []


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
