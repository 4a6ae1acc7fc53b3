"""One peer's training, stepped from outside: take, mix, forward, backward, step, publish. It never waits.

The owner calls `step(now)` and decides how time passes between the calls (real processes sleep, a simulator jumps).
Where a strategy goes in lockstep, the owner first asks `awaited(now)`, and lets time pass until nobody is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName, Version
from gossipdistill.learning.alarms import Silence, connection_event
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.company import Attempt, Company
from gossipdistill.learning.donation import GIVEN, Donor, without_asks
from gossipdistill.learning.fitness import unscaled
from gossipdistill.learning.gradients import (
    ONE_BATCH,
    Evaluation,
    GradientRules,
    make_gradient,
    make_step,
)
from gossipdistill.learning.holding_out import hold_out
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.neighbours import Neighbours
from gossipdistill.learning.nesterov import finite_sum_risk
from gossipdistill.learning.outcome import LossTrace
from gossipdistill.learning.rounds import Lockstep, Without
from gossipdistill.learning.snapshot import load_arrays
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, DeliveryClass, Neighbourhood, Parcel, Settlement
from gossipdistill.strategies.base import Delivery, RoundOptions, Strategy, View
from gossipdistill.tasks import Task, figures
from gossipdistill.topology import Connection, Schedule
from gossipdistill.user_code import called, users_code

JUDGED_PEERS_MAX = 512
"""Of larger rosters nobody looks whether the graph of the living is connected."""


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
    gradient: GradientRules = ONE_BATCH
    rate_drops: tuple[float, ...] = ()
    """At these shares of the run the learning rate falls tenfold; not together with the cosine."""
    strict: bool = False
    """Whether a strategy that leaves an arrival unsettled is an exception, as in tests, or only a warning."""
    task_loss: float = float("nan")
    trace: LossTrace = field(default_factory=LossTrace)
    company: Company = field(default_factory=Company)
    published_bytes: int = 0
    """Of the last publication; 0 as long as there was none."""
    _state: Any = None
    lockstep: Lockstep | None = None
    donor: Donor | None = None
    """What gives my model to newcomers; None where weights are not shared."""
    _pending: list[Arrival] = field(default_factory=list)
    _came_back: list[Arrival] = field(default_factory=list)
    _neighbours: Neighbours = field(init=False)
    _judged: Neighbourhood | None = None
    _connection: Connection = field(init=False)
    _began_s: float | None = None
    _silence: Silence = field(default_factory=Silence)

    def __post_init__(self) -> None:
        x, y = (part.to(self.learner.device) for part in self.task.train)
        self.learner.criterion = called(self.task.loss, "Task.loss")
        self.learner.examples = (x, y)
        if self.strategy.held_out > 0.0:
            self.draws = hold_out(self.learner, self.draws, self.strategy.held_out, self.gradient.accumulate)
        # Who looks ahead gets draws of its own: these keep the order of one epoch.
        self.learner.draws = replace(self.draws)
        self._state = self.strategy.init(self.learner)
        self._connection = Connection(self.schedule)
        settled, learner = self.strategy.delivery.settled, self.learner
        self._neighbours = Neighbours(self.schedule, learner.name, learner.place, settled)
        if isinstance(self.strategy.options, RoundOptions):
            self.lockstep = Lockstep(self.strategy.options.round_timeout_s)

    def awaited(self, now: float) -> frozenset[PeerName]:
        """For whom this peer has to wait before its next step; nobody, but where a strategy goes in lockstep.

        The owner asks again a little later, until the answer is empty: after `round_timeout_s` at the latest.
        """
        if self.lockstep is None:
            return frozenset()
        self._take()
        neighbourhood = self.mailbox.neighbourhood()
        late = sum(self.lockstep.late.values())
        missing = self.lockstep.awaited(now, Without(neighbourhood.alive, neighbourhood.done | neighbourhood.muted))
        if sum(self.lockstep.late.values()) > late:
            names = ", ".join(sorted(self.lockstep.late))
            self.learner.ledger.warn(f"rounds have gone on without neighbours that were too late: {names}")
        return missing

    def step(self, now: float, progress: float = 0.0) -> None:
        """One optimiser step at clock reading `now` (s); posts and takes on the way.

        `progress` is how much of the run is over, 0 to 1, by steps or by time: what learning rates follow.
        """
        learner, strategy = self.learner, self.strategy
        learner.now_s = now
        learner.paces.steps.look(now)
        if self.cosine or self.rate_drops:
            with users_code("train.optimizer"):  # of the user's own, whose groups may lack a rate
                self._set_rate(progress)
        if self._began_s is None:
            self._began_s = now
            self._note_what_to_know()
        view = self._mix(self._arrivals(), now)
        self._give(now)
        if strategy.overlapped and self.cadence.due(learner.step + 1, now):
            self._publish(view, now)

        rows = self.draws.at(learner.step)

        def evaluate() -> Evaluation:
            return make_gradient(learner, self.gradient, rows, lambda: strategy.loss(self._state, learner))

        first = evaluate()
        self.task_loss = first.task_loss
        self.trace.look(self.task_loss, learner.step + 1)
        strategy.adjust(self._state, learner)
        if not strategy.owns_step:
            make_step(learner, first, evaluate)
        learner.step += 1

        if not strategy.overlapped and self.cadence.due(learner.step, now):
            self._publish(view, now)
        self.mailbox.report_progress(learner.step, done=False)

    def _note_what_to_know(self) -> None:
        constant = not self.cosine and not self.rate_drops
        learner = self.learner
        risk = finite_sum_risk(learner.optimizer, self.draws.batch_size, len(self.task.train[0]), constant)
        shares = self.strategy.needs.alike_models and self.strategy.delivery.gossips
        assert learner.examples is not None
        scale = unscaled(learner.examples[0])
        for warning in filter(None, (risk, scale, learner.shared.told() if shares else "")):
            learner.ledger.warn(warning)
            learner.ledger.note(EventKind.WARNING, "", warning)

    def finish(self, now: float) -> None:
        """After the last step and before the model is judged: what came meanwhile is still absorbed."""
        if self.strategy.delivery is Delivery.MASS:
            self.learner.now_s = now
            self._mix(self._arrivals(), now)

    def publish_final(self, now: float) -> None:
        """Leave the final state with the neighbours, for those who still learn. Mass stays where it is, and a stream
        ends."""
        if self.strategy.delivery.settled:
            return
        self.learner.now_s = now
        self._publish(self._view(self.mailbox.neighbourhood(), [], now), now)

    def serve(self, now: float) -> None:
        """Between my last step and the end of the others: mass goes back to those who still train."""
        if not self.strategy.delivery.settled:
            return
        self.learner.now_s = now
        home: list[Arrival] = []
        for arrival in self._arrivals():
            if arrival.home:
                home.append(arrival)
            elif arrival.delivery is not DeliveryClass.STATE:
                self.learner.refuse(arrival, "done training")
        if self.strategy.delivery is Delivery.STREAM:
            self._settle([])  # a stream that has ended is mixed no more
        elif home or self.learner.settlements:
            self._mix(home, now)

    def hand_over(self, now: float, passed_over: set[PeerName]) -> list[Parcel]:
        """I leave while others go on: what comes is refused, and what is conserved goes to one of them, whole; the
        model stays as it is. `passed_over` have sent it home, and more may. Called until all is `settled`."""
        home: list[Arrival] = []
        self.learner.now_s = now
        for arrival in self._arrivals():
            if arrival.home:
                home.append(arrival)
                passed_over.add(arrival.sender)
            elif arrival.delivery is not DeliveryClass.STATE:
                self.learner.refuse(arrival, "is leaving")
        self._settle([])
        coming = self._neighbours.coming(self.mailbox.neighbourhood(), self.cadence.exchanges)
        heirs = tuple(name for name in coming if name not in passed_over)
        busy = self.mailbox.busy(self.strategy.topic, DeliveryClass.MASS)
        view = View(self.cadence.exchanges, now, heirs, busy=busy)
        parcels = self.strategy.hand_over(self._state, self.learner, home, view)
        self.post_all(parcels, now)
        return parcels

    def settled(self) -> bool:
        """Whether nothing that is conserved is on its way from me to one of the living."""
        alive = self.mailbox.neighbourhood().alive
        return not any(slot.peer in alive for slot in self.mailbox.unsettled())

    def take_given(self, now: float) -> list[Arrival]:
        """Before my first step, while I ask for a state: what came of one. Mass goes home, all else is passed over."""
        arrivals = self.mailbox.take()
        self.learner.now_s = now
        for arrival in without_asks(arrivals, self.donor, self.learner.ledger):
            if arrival.delivery is not DeliveryClass.STATE and not arrival.home:
                self.learner.refuse(arrival, "is catching up")
        self._settle([])
        self._give(now)
        return [arrival for arrival in arrivals if arrival.topic == GIVEN]

    def donors(self) -> tuple[PeerName, ...]:
        """Who may be asked for a state: the living who still train, neighbours of the next exchanges first."""
        neighbourhood = self.mailbox.neighbourhood()
        coming = self._neighbours.coming(neighbourhood, self.cadence.exchanges)
        return tuple(name for name in coming if name not in neighbourhood.done)

    def adopt(self, arrays: Mapping[str, Tensor]) -> None:
        """Begin at another model, with nothing else of what was before: mass has weight 1, the optimiser is new."""
        load_arrays(self.learner.model, arrays)
        self.learner.optimizer.state.clear()
        self._state = self.strategy.init(self.learner)

    def _give(self, now: float) -> None:
        """The next chunks to newcomers that have asked for some."""
        if self.donor is not None and self.donor.asked:
            trained_s = now - self._began_s if self._began_s is not None else 0.0
            self.post_all(self.donor.answers(now, self.learner, trained_s), now)

    def _take(self) -> None:
        """What the mailbox holds, kept for the next `mix`."""
        arrivals = without_asks(self.mailbox.take(), self.donor, self.learner.ledger)
        self._pending += arrivals
        if self.lockstep is not None:
            for arrival in arrivals:
                self.lockstep.heard(arrival.sender, arrival.exchange)
            number = self.lockstep.catch_up()
            if number is not None:
                self.cadence.exchanges = number

    def _arrivals(self) -> list[Arrival]:
        self._take()
        arrivals = self._came_back + self._pending
        self._came_back, self._pending = [], []
        return arrivals

    def _mix(self, arrivals: list[Arrival], now: float) -> View:
        """Let the strategy absorb what came, and pass its verdicts on."""
        self.notice_company(now)
        view = self._view(self.mailbox.neighbourhood(), arrivals, now)
        for arrival in arrivals:
            if not arrival.home:
                self.learner.paces.heard(arrival.sender, arrival.arrived_s)
        if arrivals and self.strategy.delivery is Delivery.MASS:
            view = replace(view, busy=self.mailbox.busy(self.strategy.topic, DeliveryClass.MASS))
        parcels = self.strategy.mix(self._state, self.learner, arrivals, view)
        if self.strategy.delivery.settled:
            self._settle(arrivals)
        complaints, self.learner.ledger.complaints = self.learner.ledger.complaints, []
        if complaints:
            self.mailbox.complain(complaints)
        self.post_all(parcels, now)
        return view

    def _settle(self, arrivals: Iterable[Arrival]) -> None:
        """Hand the verdicts to the mailbox; an arrival without one would keep its link busy for ever."""
        settlements, self.learner.settlements = self.learner.settlements, []
        settled = {(s.sender, s.topic, s.version) for s in settlements}
        for arrival in arrivals:
            key = (arrival.sender, arrival.topic, arrival.version)
            if arrival.home or arrival.delivery is DeliveryClass.STATE or key in settled:
                continue
            problem = f"strategy {self.strategy.name} has not settled what came from {arrival.sender}"
            if self.strict:
                raise AssertionError(problem)
            self.learner.ledger.warn(problem + "; refused in its stead")
            settlements.append(Settlement(*key, absorbed=False, reason="not settled"))
        if self.strict and len(settled) < len(settlements):
            raise AssertionError(f"strategy {self.strategy.name} has settled an arrival twice")
        self.mailbox.settle(settlements)

    def _publish(self, view: View, now: float) -> None:
        if self.strategy.delivery.settled:
            delivery = DeliveryClass(self.strategy.delivery.value)
            view = replace(view, busy=self.mailbox.busy(self.strategy.topic, delivery))
        parcels = self.strategy.publish(self._state, self.learner, view)
        self.published_bytes = parcels[0].payload.nbytes if parcels else self.published_bytes
        self.post_all(parcels, now)
        if self.lockstep is not None:
            self.lockstep.posted(view.exchange, [name for parcel in parcels for name in parcel.to])

    def post_all(self, parcels: Iterable[Parcel], now: float) -> None:
        """Leave parcels in the mailbox."""
        for parcel in parcels:
            if not self.mailbox.post(parcel):
                self._take_back(parcel, now)

    def _take_back(self, parcel: Parcel, now: float) -> None:
        """A strategy has posted on a busy link, which is a fault of it; what it gave away must not be lost."""
        problem = f"strategy {self.strategy.name} has posted for {parcel.to[0]} on a busy link"
        if self.strict:
            raise AssertionError(problem)
        self.learner.ledger.warn(problem + "; given back")
        what = (parcel.step, parcel.exchange, parcel.payload, now, parcel.key)
        mass = (parcel.delivery, parcel.weight, parcel.degree)
        self._came_back.append(
            Arrival(parcel.to[0], parcel.topic, Version(0, 0), *what, *mass, home=True, reason="the link was busy")
        )

    def checkpoint(self, **progress: float) -> Checkpoint:
        """A copy of what this peer remembers of its training, `progress` included, while it waits."""
        learner = self.learner
        counted = {"step": learner.step, "exchanges": self.cadence.exchanges, **progress}
        memory = {**self.strategy.remember(self._state), **learner.delays.remember(), **learner.norms.remember()}
        return Checkpoint.of(learner.model, learner.optimizer, counted, self.strategy.name, memory, learner.built)

    def resume(self, checkpoint: Checkpoint, generators: bool = True) -> None:
        """Go on from a checkpoint whose model and optimiser are restored already: as if nothing had been, where nothing
        is exchanged, and without any state of a link, where something is. `generators`: the global ones as well."""
        self.learner.step = int(checkpoint.progress["step"])
        self.cadence.exchanges = int(checkpoint.progress.get("exchanges", 0))
        if not self.cosine and not self.rate_drops:
            self._leave_schedule()
        memory = checkpoint.recalled(self.strategy.name)
        self.strategy.recall(self._state, self.learner, memory)
        self.learner.delays.recall(memory)
        self.learner.norms.recall(memory)
        if generators:
            checkpoint.restore_generators(self.learner.device)

    def held_weight(self) -> float:
        """The push-sum weight that this peer holds, with what has come back and is not mixed in yet; 0 without mass."""
        if self.strategy.delivery is not Delivery.MASS:
            return 0.0
        back = [arrival.weight for arrival in (*self._came_back, *self._pending) if arrival.home]
        return float(self._state.weight) + sum(back)

    def evaluate(self) -> tuple[Tensor, dict[str, float]]:
        """(outputs [V, ...] for the validation inputs on the CPU, {"loss": ..., and the task's metrics})."""
        x, y = self.task.validation
        outputs = self.learner.predict(self.learner.model, x.to(self.learner.device)).cpu()
        return outputs, figures(self.task, outputs, y)

    def _set_rate(self, progress: float) -> None:
        """lr = initial lr * (1 + cos(pi * progress)) / 2 (Loshchilov and Hutter 2017, 1608.03983, equation 5); or
        initial lr / 10^(drops so far)."""
        share = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        if not self.cosine:
            share = 10.0 ** -sum(progress >= drop for drop in self.rate_drops)
        for group in self.learner.optimizer.param_groups:
            rate = group["lr"]
            if isinstance(rate, Tensor):  # compiled and captured steps read this very tensor
                rate.copy_(group.setdefault("initial_lr", rate.clone()) * share)
            else:
                group["lr"] = group.setdefault("initial_lr", rate) * share

    def _leave_schedule(self) -> None:
        """The checkpoint is of a run in which `_set_rate` moved the rates, and in this one nothing does."""
        for group, built in zip(self.learner.optimizer.param_groups, self.learner.built, strict=True):
            if "initial_lr" in group and "initial_lr" not in built:
                group["lr"] = group.pop("initial_lr")

    @property
    def gossips(self) -> bool:
        """Whether this peer is to exchange anything with others."""
        return self.strategy.delivery.gossips and len(self.schedule.peers) > 1

    def notice_company(self, now: float, last: bool = False) -> None:
        """Who is there to exchange something with, as long as nothing has been; `last`: however short the time was."""
        company = self.company
        if company.over or not company.due(now, last):
            return
        company.over = not self.gossips or self.learner.ledger.exchanges > 0
        if not company.over:
            company.look(now, *self._neighbours.around(self.mailbox.neighbourhood()))

    def attempt(self, steps: int, due: int, **seen: Any) -> Attempt:
        """What `learning/company.unexchanged` wants to know of `steps` optimiser steps and `due` exchanges."""
        ledger, neighbourhood = self.learner.ledger, self.mailbox.neighbourhood()
        company = self.company
        mute = due > 0 and company.recipients and not self.published_bytes
        return Attempt(
            ledger.exchanges, due, steps, self.strategy.exchange.every_steps, company,
            no_neighbour=not self._neighbours.any_in_topology(), payload_bytes=self.published_bytes,
            refused=ledger.quarantined, left_out=ledger.left_out,
            unpublished=["it has published nothing itself", *ledger.warnings] if mute else (),
            statuses={str(name): status for name, status in neighbourhood.statuses.items()}, **seen,
        )  # fmt: skip

    # --- alarms --------------------------------------------------------------------------------------------------

    def check_exchange(self, now: float) -> Event | None:
        """An event when training goes on without gossip for `SILENCE_S`, and one when gossip begins again."""
        if not self.gossips or self._began_s is None:
            return None
        period_s = self.learner.paces.period_s(self.strategy.exchange.every_steps)
        return self._silence.look(now, self._began_s, self.learner.ledger, self.mailbox.neighbourhood(), period_s)

    def check_connection(self, now: float) -> Event | None:
        """An event when the living no longer form one graph in which news gets round, and one when they do again."""
        neighbourhood = self.mailbox.neighbourhood()
        if neighbourhood is self._judged:
            return None
        self._judged = neighbourhood
        if len(self.schedule.peers) > JUDGED_PEERS_MAX:
            return None
        known = self._neighbours.known(neighbourhood)
        return connection_event(self._connection, {known.me, *known.alive}, now)

    # --- the view ------------------------------------------------------------------------------------------------

    def _view(self, neighbourhood: Neighbourhood, arrivals: list[Arrival], now: float) -> View:
        """The snapshot for this step: who gets my next publication, and what weight each arrival has."""
        exchange = self.cadence.exchanges
        in_weights: dict[str, float] = {}
        if arrivals and self.strategy.delivery is Delivery.STATE:
            weight = self._neighbours.in_weight
            in_weights = {str(arrival.sender): weight(neighbourhood, arrival.exchange) for arrival in arrivals}
        return View(exchange, now, self._neighbours.out(neighbourhood, exchange), in_weights)
