"""How the training of a real worker is judged at its end, and whether it has exchanged anything."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.common.quadratic import PLAIN
from gossipdistill.assembly.examining import Examiner, Verdict
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.schema import TrainKeys
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import UserCodeError
from gossipdistill.events import Event, EventKind
from gossipdistill.faults import FaultPlan, load_fault_plan
from gossipdistill.ids import PeerName
from gossipdistill.learning.evaluation import untouched
from gossipdistill.learning.outcome import Ending
from gossipdistill.messages import Neighbourhood
from gossipdistill.strategies import STRATEGIES
from gossipdistill.topology import load_topology
from gossipdistill.training.worker import Worker

from .world import World, make_strategy, make_worker

GOSSIPING = [name for name, kind in STRATEGIES.items() if kind.delivery.gossips]
STEP_S = 0.5


def examined(worker: Worker, steps: int | None = None, plan: FaultPlan | None = None) -> Examiner:
    examiner = Examiner(worker, TrainKeys(lr=0.1), plan=plan)
    examiner.begin(steps, resumed=False)
    return examiner


def verdict(examiner: Examiner, now: float, *confirmed_by: str) -> Verdict:
    outputs, figures = examiner.worker.evaluate()
    return examiner.end(outputs, figures, now, confirmed_by)


def with_model(worker: Worker, model: nn.Module, lr: float = 0.1) -> Worker:
    """The same worker with another model."""
    old = worker.learner
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    endless = {} if old.steps_total is None else {"steps": old.steps_total}
    spec = WorkerSpec.in_process(old.name, old.peers, PLAIN | {"seed": old.seed} | endless)
    gossip = worker.gossip
    given = Given(gossip.strategy, gossip.alarms.schedule, worker.task, model, optimizer, replace(worker.draws))
    return build_worker(spec, gossip.endpoint.mailbox, given)


def alone(model: nn.Module, steps: int, lr: float = 0.1) -> Verdict:
    worker = with_model(make_worker("ada", make_strategy("isolated")), model, lr)
    examiner = examined(worker, steps)
    for step in range(steps):
        worker.step(step * STEP_S)
    return verdict(examiner, steps * STEP_S)


# --- the look before the first step ------------------------------------------------------------------------------


class Noisy(nn.Module):
    """Draws from every generator, keeps statistics, and counts even when it is only asked."""

    calls: Tensor
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
        self.body[1].eval()  # frozen by its owner
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.body(x) + 0.01 * (random.random() + np.random.rand() + torch.rand(()))
        self.last = out.detach()[0]  # replaced, not written into
        return out


def test_the_look_leaves_no_trace_in_what_is_trained() -> None:
    results = []
    for looked_at in (False, True):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        worker = with_model(make_worker("ada", make_strategy("isolated")), Noisy())
        examiner = Examiner(worker, TrainKeys())
        if looked_at:
            examiner.begin(None, resumed=False)
            assert examiner.start is not None
        assert not worker.learner.model.body[1].training  # type: ignore[union-attr, index]
        assert worker.learner.model.body[2].training  # type: ignore[union-attr, index]
        for step in range(5):
            worker.step(float(step))
        state = {name: tensor.clone() for name, tensor in worker.learner.model.state_dict().items()}
        results.append((state, random.random(), np.random.rand(), torch.rand(3)))
    for name, tensor in results[0][0].items():
        assert torch.equal(tensor, results[1][0][name]), name
    assert results[0][1:3] == results[1][1:3]
    assert torch.equal(results[0][3], results[1][3])


def test_buffers_are_put_back_whatever_a_forward_pass_does_to_them() -> None:
    model = Noisy()
    shared = torch.zeros(1).expand(4)
    model.register_buffer("expanded", shared)  # cannot be written to
    calls, last = model.calls, model.last
    with untouched(model):
        model(torch.rand(4, 2))
        assert float(model.calls) == 1.0
    assert model.calls is calls
    assert model.last is last
    assert float(calls) == 0.0
    assert model.expanded is shared


def test_a_short_run_and_one_that_goes_on_have_no_start_to_look_at() -> None:
    worker = make_worker("ada", make_strategy("isolated"))
    for steps, resumed, looked in ((19, False, False), (20, False, True), (None, False, True), (None, True, False)):
        examiner = Examiner(worker, TrainKeys())
        examiner.begin(steps, resumed)
        assert (examiner.start is not None) == looked


# --- the training ----------------------------------------------------------------------------------------------------


class Dead(nn.Sequential):
    """Its units are dead from the start."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        nn.init.constant_(self[0].bias, -100.0)


class Masked(nn.Module):
    """With constants that are not finite: a buffer, and a parameter that nothing trains."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
        self.register_buffer("mask", torch.tensor([0.0, 0.0, 0.0, -torch.inf]))
        self.fixed = nn.Parameter(torch.full((2,), torch.inf), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.mask[:3]
        return out


def test_what_becomes_of_a_model() -> None:
    def sound() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))

    assert alone(sound(), 60).outcome.ending is Ending.FINISHED
    assert alone(sound(), 60).warnings == ()
    diverged = alone(nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3)), 60, lr=1e12)
    assert diverged.outcome.ending is Ending.DIVERGED
    assert "try train.lr below 0.1" in diverged.outcome.reason
    assert [event.kind for event in diverged.events(1.0, 60)] == [EventKind.DIVERGED]
    collapsed = alone(Dead(), 50)
    assert collapsed.outcome.ending is Ending.COLLAPSED
    assert [event.kind for event in collapsed.events(1.0, 50)] == [EventKind.COLLAPSED]
    assert alone(Dead(), 49).outcome.ending is Ending.FINISHED
    assert alone(Masked(), 60).outcome.ending is Ending.FINISHED
    assert alone(Masked(), 60).warnings == ()


def test_a_buffer_counts_where_it_is_shared() -> None:
    for strategy, ending in (("gossip_averaging", Ending.DIVERGED), ("codistill_predictions", Ending.FINISHED)):
        model = Masked()
        model.register_buffer("tracked", torch.zeros(2))
        worker = with_model(make_worker("ada", make_strategy(strategy)), model)
        examiner = examined(worker)
        worker.step(0.0)
        model.tracked.fill_(torch.nan)  # type: ignore[operator]
        found = verdict(examiner, 1.0).outcome
        assert found.ending is ending
        assert ("buffer tracked is not finite" in found.reason) == (ending is Ending.DIVERGED)


def test_a_metric_that_raises_on_what_is_not_finite_hides_nothing() -> None:
    def picky(out: Tensor, y: Tensor) -> float:
        if not bool(out.isfinite().all()):
            raise ValueError("Input contains NaN.")
        return 1.0

    worker = make_worker("ada", make_strategy("isolated"))
    worker.task = replace(worker.task, metrics={"picky": picky})
    examiner = examined(worker)
    worker.step(0.0)
    assert worker.evaluate()[1]["picky"] == 1.0
    with torch.no_grad():
        next(worker.learner.model.parameters()).fill_(torch.nan)
    assert verdict(examiner, 1.0).outcome.ending is Ending.DIVERGED
    worker.task = replace(worker.task, metrics={"broken": lambda out, y: 1 / 0})
    with torch.no_grad():
        next(worker.learner.model.parameters()).fill_(0.1)
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        worker.evaluate()


def test_a_loss_that_stays_not_finite_is_said_once_while_it_lasts() -> None:
    worker = make_worker("ada", make_strategy("isolated"))
    examiner = examined(worker)
    worker.learner.criterion = lambda out, y: out.sum() * 0.0 + torch.inf
    said = []
    for step in range(9):
        worker.step(float(step))
        said.append(examiner.divergence(float(step)))
    told = [event for event in said if event is not None]
    assert len(told) == 1
    assert "not been finite since step 1 " in told[0].reason


# --- the exchange ----------------------------------------------------------------------------------------------------


def world_of(strategy: str = "gossip_averaging", every_steps: int = 1, **options: Any) -> World:
    return World({name: make_worker(name, make_strategy(strategy, every_steps, **options)) for name in ("ada", "bo")})


def after(world: World, steps: int, only: str | None = None, plan: FaultPlan | None = None) -> Verdict:
    """What is said of ada after so many steps of half a second; `only`: whose parcels arrive."""
    examiner = examined(world.workers["ada"], plan=plan)
    for step in range(steps):
        for name, worker in world.workers.items():
            worker.step(step * STEP_S)
            if only in (None, name):
                world.carry(name, step * STEP_S)
            else:
                worker.gossip.endpoint.mailbox.collect()
    return verdict(examiner, steps * STEP_S)


@pytest.mark.parametrize("name", GOSSIPING)
def test_who_has_exchanged_something_is_told_nothing(name: str) -> None:
    options = {"groups": 2} if name == "codistill_groups" else {}
    assert after(world_of(name, 2, **options), 12).unexchanged is None


def test_a_neighbour_that_lives_and_is_not_heard_is_a_failure() -> None:
    found = after(world_of(), 12, only="ada")
    assert found.troubles == ("nothing was exchanged: bo lived for 6 s, and nothing of theirs has come",)
    assert found.warnings[-1] == found.troubles[0]
    assert [event.kind for event in found.events(1.0, 12)] == [EventKind.WARNING, EventKind.FINISHED]


def test_the_network_may_know_the_reason() -> None:
    world = world_of()
    examiner = examined(world.workers["ada"])
    for step in range(12):
        world.workers["ada"].step(step * STEP_S)
    for peer, reason in (("bo", "lives, but took no state"), ("nobody", "is no neighbour"), ("bo", "its port is shut")):
        examiner.hear(Event(EventKind.WARNING, 1.0, peer, reason))
    assert verdict(examiner, 6.0).troubles == ("nothing was exchanged: bo: its port is shut",)


def test_refused_payloads_are_a_failure_however_short_the_run() -> None:
    world = world_of()
    world.workers["bo"] = with_model(world.workers["bo"], nn.Linear(2, 3))
    found = after(world, 3)
    assert found.troubles == ("nothing was exchanged: payloads were refused (bo: arrays x2)",)


@pytest.mark.parametrize(
    ("every_steps", "steps", "only", "options", "words"),
    [
        (50, 12, "ada", {}, "the first exchange is due at step 50 (exchange.every_steps), and it has made 12 steps"),
        (1, 6, "ada", {}, "it trained beside bo for 3.0 s only, and nothing had come by then"),
        (1, 12, None, {"burn_in_steps": 99}, "burn_in_steps leaves out bo (of my own first 99 steps"),
        (1, 12, None, {"teacher_burn_in_steps": 99}, "teacher_burn_in_steps leaves out bo"),
    ],
)
def test_what_the_user_has_asked_for_is_said_and_is_no_failure(
    every_steps: int, steps: int, only: str | None, options: dict[str, Any], words: str
) -> None:
    name = "codistill_predictions" if options else "gossip_averaging"
    found = after(world_of(name, every_steps, **options), steps, only)
    assert found.troubles == ()
    assert words in found.warnings[-1]


def test_with_nobody_there_it_is_said_and_is_no_failure() -> None:
    worker = make_worker("ada", make_strategy("gossip_averaging"))
    worker.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, statuses={PeerName("bo"): "dead"}), ())
    examiner = examined(worker)
    for step in range(12):
        worker.step(step * STEP_S)
    found = verdict(examiner, 6.0)
    assert found.troubles == ()
    assert "no neighbour was there long enough to hear it (bo dead)" in found.warnings[-1]


def test_time_beside_others_counts_and_not_the_time_after_they_have_gone() -> None:
    worker = make_worker("ada", make_strategy("gossip_averaging"))
    worker.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, alive=frozenset({PeerName("bo")})), ())
    examiner = examined(worker)
    for step in range(100):
        if step == 5:
            worker.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, done=frozenset({PeerName("bo")})), ())
        worker.step(step * STEP_S)
    found = verdict(examiner, 50.0)
    assert found.troubles == ()
    assert "it trained beside bo for 2.0 s only" in found.warnings[-1]


def test_a_fault_plan_may_have_cut_the_links_on_purpose() -> None:
    plan = load_fault_plan("bad-day", ("ada", "bo", "cy", "dee"))
    found = after(world_of(), 12, only="ada", plan=plan)
    assert found.troubles == ()
    assert "(under the fault plan bad-day)" in found.warnings[-1]


def test_who_can_only_send_has_exchanged_what_was_confirmed(tmp_path: Any) -> None:
    path = tmp_path / "one-way.toml"
    path.write_text('kind = "edges"\nedges = [["ada", "bo"]]\n')
    for confirmed, troubles in (((), 1), (("bo",), 0)):
        world = world_of("codistill_checkpoints")
        ada = world.workers["ada"]
        schedule, mailbox = load_topology(str(path), ("ada", "bo")), ada.gossip.endpoint.mailbox
        given = Given(ada.gossip.strategy, schedule, ada.task, ada.learner.model, ada.learner.optimizer, ada.draws)
        spec = WorkerSpec.in_process("ada", ada.learner.peers, PLAIN)
        ada = world.workers["ada"] = build_worker(spec, mailbox, given)
        examiner = examined(ada)
        for step in range(12):
            ada.step(step * STEP_S)
        found = verdict(examiner, 6.0, *confirmed)
        assert len(found.troubles) == troubles
        assert troubles == 0 or "bo lived for 6 s, and confirmed nothing" in found.troubles[0]


def test_who_exchanges_nothing_by_design_is_told_nothing() -> None:
    for name in ("isolated", "self_distillation"):
        assert after(world_of(name), 12).unexchanged is None
    single = make_worker("ada", make_strategy("gossip_averaging"), names=("ada",))
    examiner = examined(single)
    for step in range(12):
        single.step(step * STEP_S)
    assert verdict(examiner, 6.0).unexchanged is None
