"""Synchronous data parallelism, as the baseline: torch's own DistributedDataParallel over gloo.

The one file that may import torch.distributed.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, final
from urllib.parse import urlparse

import torch
import torch.distributed as distributed
from pydantic import Field
from torch.nn.parallel import DistributedDataParallel

from gossipdistill.errors import ConfigError, GossipdistillError, UserCodeError
from gossipdistill.events import EventKind
from gossipdistill.learning.evaluation import generators_kept, restored
from gossipdistill.learning.learner import Learner
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies import base
from gossipdistill.strategies.base import (
    Delivery,
    Initialisation,
    Needs,
    Rounds,
    Strategy,
    View,
)
from gossipdistill.user_code import text_of, users_code

_KEY = "strategy.rendezvous"
_NAMES_MAX = 8


class Options(base.Options):
    """Keys of `[strategy]` for this strategy."""

    rendezvous: str = ""
    """The address at which the processes meet: `tcp://HOST:PORT` of the first peer. `run` and `compare` choose one."""
    timeout_s: float = Field(default=60.0, gt=0)
    """The most time of one collective operation; one that takes longer ends the run."""
    find_unused: Literal["auto", "always"] = "auto"
    """Whether each step looks for parameters that get no gradient. auto: if two batches before the first step leave
    some without one; always: also for those that get one in most steps."""


@dataclass(slots=True)
class State:
    """`bytes_per_step` are the bytes that one step sends, by the ring's formula. `others` are the peers whose gradients
    enter the step."""

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
        self._meet(learner)
        unused = unused_parameters(learner) if self.options.find_unused == "auto" else ()
        if unused:
            some = ", ".join(unused[:_NAMES_MAX]) + (", ..." if len(unused) > _NAMES_MAX else "")
            learner.ledger.note(EventKind.WARNING, "", f"get no gradient, and stay as they are: {some}")
        # Either all peers look or none does: those that look exchange what they have found.
        looks = torch.tensor([float(bool(unused) or self.options.find_unused == "always")])
        distributed.all_reduce(looks, distributed.ReduceOp.MAX)
        with users_code("Task.model"):
            learner.forward_module = DistributedDataParallel(
                learner.model, find_unused_parameters=bool(looks.item() > 0)
            )
        parameters = sum(parameter.numel() for parameter in learner.model.parameters())
        others = tuple(name for name in learner.peers if name != learner.name)
        return State(2 * len(others) / len(learner.peers) * 4 * parameters, others)

    def _meet(self, learner: Learner) -> None:
        """Join the group of all peers.

        Raises:
            ConfigError: for a meeting place that is none.
            GossipdistillError: when the peers do not meet there in time.
        """
        where, options = self.options.rendezvous, self.options
        accepted = "tcp://HOST:PORT or file:///a/new/file"
        if urlparse(where).scheme not in ("tcp", "file"):
            raise ConfigError("is no place to meet", key=_KEY, value=where, accepted=accepted)
        try:
            distributed.init_process_group(
                "gloo",
                init_method=where,
                rank=learner.place,
                world_size=len(learner.peers),
                timeout=timedelta(seconds=options.timeout_s),
            )
        except ValueError as error:
            raise ConfigError(f"is no place to meet: {error}", key=_KEY, value=where, accepted=accepted) from None
        except RuntimeError as error:
            problem = f"the peers did not meet at {where} within {options.timeout_s:g} s: {text_of(error)}"
            raise GossipdistillError(f"{self.name}: {problem}") from error
        atexit.register(_leave)

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        return []

    def adjust(self, state: State, learner: Learner) -> None:
        learner.ledger.collective_bytes += state.bytes_per_step
        for other in state.others:
            learner.ledger.exchanged(other, learner.now_s)
            learner.ledger.applied(other, 0, 0.0)
        if learner.steps_total is None:
            # A run by time ends at different steps on different peers: they agree, otherwise the slower ones would wait
            # for ever for those that have ended. A run by steps ends together anyway and needs no agreement.
            wanted = torch.tensor([float(learner.stop_wanted)])
            distributed.all_reduce(wanted)
            learner.stop_wanted = bool(wanted.item() > 0)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        return []


def unused_parameters(learner: Learner) -> tuple[str, ...]:
    """Names of the parameters that get no gradient from one of the first two batches, in training mode; no trace is
    left.

    Without parameters that can be trained, and where a pass fails, there is nothing to find: the first step will report
    what is wrong.
    """
    assert learner.examples is not None
    assert learner.criterion is not None
    model, (x, y) = learner.model, learner.examples
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    unused: list[str] = []
    with generators_kept(), restored(model):
        try:
            for step in (0, 1):
                rows = learner.rows_at(step)
                loss = learner.criterion(learner.forward(x[rows]), y[rows])
                found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
                unused += [name for name, gradient in zip(named, found, strict=True) if gradient is None]
        except (UserCodeError, RuntimeError, AttributeError):
            return ()
    return tuple(dict.fromkeys(unused))


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
