"""Claims about Leader SGD. Each test names its paper and section."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.learning import norms
from gossipdistill.learning.learner import Draws
from gossipdistill.learning.snapshot import pack, unpack
from gossipdistill.learning.words import WORDS_MAX, mark_of
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Parcel
from gossipdistill.tasks import Shard, load_task
from gossipdistill.tasks.shards import ShardKind
from gossipdistill.training.worker import Worker

from .test_papers import points
from .world import DIMENSIONS, World, learn_from, make_quadratic, make_strategy, place_at

NAMES = ("p0", "p1", "p2", "p3")


def scattered(topology: str = "complete", names: tuple[str, ...] = NAMES, **options: object) -> World:
    """Peers with one goal, the origin, at distances 1, 2, ... from it; they stand still unless they are pulled."""
    world = World({n: make_quadratic(n, make_strategy("leader_sgd", **options), names, topology) for n in names})
    for place, worker in enumerate(world.workers.values()):
        learn_from(worker, y=torch.zeros_like(worker.task.train[1]))
        if worker.learner.held_out is not None:
            worker.learner.held_out = (worker.learner.held_out[0], torch.zeros_like(worker.learner.held_out[1]))
        place_at(worker, np.full(DIMENSIONS, 1.0 + place))
    return world


def steps(world: World, first: int, last: int) -> None:
    for step in range(first, last):
        world.step(0.1 * step)


def leaders(world: World) -> list[str | None]:
    return [worker.gossip.state.leader and worker.gossip.state.leader[0] for worker in world.workers.values()]


def forging(world: World, byzantine: str, forge: Callable[[Parcel], Parcel]) -> None:
    """What the liar posts is something else by the time it is carried."""
    honest_carry = world.carry

    def carry(name: str, now: float) -> None:
        if name == byzantine:
            mailbox = world.workers[byzantine].gossip.endpoint.mailbox
            for slot, parcel in mailbox.collect().parcels:
                mailbox.post(replace(forge(parcel), to=(slot.peer,)))
        honest_carry(name, now)

    world.carry = carry  # type: ignore[method-assign]


def words(said: dict[str, float], judge: str = "p3") -> torch.Tensor:
    """A table of words, by hand."""
    table = torch.zeros(WORDS_MAX, 4, dtype=torch.int32)
    table[:, 2:] = torch.full((WORDS_MAX, 2), float("nan")).view(torch.int32)
    for row, (name, gain) in enumerate(said.items()):
        table[row, :2] = torch.tensor([mark_of(judge), mark_of(name)])
        table[row, 2:] = torch.tensor([gain, 0.0]).view(torch.int32)
    return table


def gains_in(parcel: Parcel) -> dict[int, float]:
    """What its sender says for itself in these words, by the mark of the model's owner."""
    table = unpack(parcel.payload, {"words": (WORDS_MAX, 4)}, {"words": torch.int32})["words"]
    return dict(zip(table[:, 1].tolist(), table[:, 2].contiguous().view(torch.float32).tolist(), strict=True))


def test_all_follow_the_best_and_the_leader_stays_where_it_is() -> None:
    """Teng et al. 2019 (1905.10395), section 3: the pull of the leader vanishes at the leader itself, so that the
    stationary points of training stay what they were."""
    world = scattered(pull=0.3)
    steps(world, 0, 4)
    assert leaders(world) == [None, "p0", "p0", "p0"]
    at = points(world)[:, 0]
    assert at[0] == 1.0
    # Nobody knows of its own model before the second exchange: two of three have pulled, 0.3 of the way each time.
    np.testing.assert_allclose(at[1:], 1.0 + 0.7**2 * np.array([1.0, 2.0, 3.0]), rtol=5e-3)


def test_between_exchanges_nothing_pulls() -> None:
    world = World({n: make_quadratic(n, make_strategy("leader_sgd", 5), NAMES, "complete") for n in NAMES})
    for place, worker in enumerate(world.workers.values()):
        learn_from(worker, y=torch.zeros_like(worker.task.train[1]))
        place_at(worker, np.full(DIMENSIONS, 1.0 + place))
    moved = []
    for step in range(20):
        before = points(world)
        world.step(0.1 * step)
        moved.append(not np.array_equal(points(world), before))
    assert [step for step, one in enumerate(moved) if one] == [10, 15]


def bad(world: World, name: str) -> None:
    """A model that is of no use to anybody but its owner, whose own loss is 0."""
    place_at(world.workers[name], np.full(DIMENSIONS, 100.0))
    learn_from(world.workers[name], y=torch.full_like(world.workers[name].task.train[1], 100.0))


def test_one_who_sends_a_bad_model_leads_nobody_whatever_it_claims() -> None:
    """Section 3 names the leader by its reported loss; here by what those have measured who do not own the model."""
    world = scattered()
    bad(world, "p0")
    steps(world, 0, 6)
    assert leaders(world) == ["p1", None, "p1", "p1"]


def test_by_claims_one_who_sends_a_bad_model_leads_everybody() -> None:
    """The paper's rule: what makes `judge = "claims"` something to ask for."""
    world = scattered(judge="claims")
    bad(world, "p0")
    steps(world, 0, 3)
    assert leaders(world) == [None, "p0", "p0", "p0"]


@pytest.mark.parametrize("judge", ["others", "probe", "claims"])
def test_by_any_judge_the_best_of_the_honest_leads(judge: str) -> None:
    world = scattered(judge=judge)
    steps(world, 0, 4)
    assert leaders(world) == [None, "p0", "p0", "p0"]


@pytest.mark.parametrize("lie", [0.0, 1.0, 3e38])
def test_a_liar_cannot_talk_its_own_model_up_nor_all_others_down(lie: float) -> None:
    """It says whatever it likes of others, and of itself, which nobody asks it about."""
    world = scattered()

    def forge(parcel: Parcel) -> Parcel:
        if not parcel.key:
            return parcel
        said = dict.fromkeys(NAMES[:3], lie) | {"p3": 3e38}
        return parcel.with_content(payload=pack({"words": words(said)}, "raw"))

    forging(world, "p3", forge)
    for step in range(8):
        world.step(0.1 * step)
        assert "p3" not in leaders(world), "p3 has the worst model"
    assert leaders(world)[1:3] == ["p0", "p0"]
    assert not world.workers["p0"].learner.ledger.quarantined


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"words": words({"p1": -0.5})}, "words"),
        ({"words": words({"p1": float("inf")})}, "words"),
        ({"words": words({"p1": 0.5})[:3]}, "shape"),
        ({"words": torch.rand(WORDS_MAX, 4)}, "type"),
        ({"claim": torch.tensor(0.0, dtype=torch.float64)}, "arrays"),
    ],
)
def test_words_that_cannot_be_are_refused_whole(payload: dict[str, torch.Tensor], reason: str) -> None:
    world = scattered()
    forging(world, "p3", lambda parcel: parcel.with_content(payload=pack(payload, "raw")) if parcel.key else parcel)
    steps(world, 0, 4)
    assert set(world.workers["p1"].learner.ledger.quarantined) == {f"p3: {reason}"}
    assert leaders(world) == [None, "p0", "p0", "p0"]


def test_a_model_without_a_finite_loss_is_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "ABSURD_RATIO", math.inf)
    monkeypatch.setattr(norms, "ABSURD_ENTRY", math.inf)
    world = scattered()
    place_at(world.workers["p3"], np.full(DIMENSIONS, 1e30))  # its square overflows
    steps(world, 0, 4)
    said = [parcel for name, parcel in world.posted if name == "p0" and parcel.key]
    assert gains_in(said[0])[mark_of("p3")] == 0.0
    assert leaders(world)[:3] == [None, "p0", "p0"]


def test_leadership_passes_to_who_becomes_better_and_ends_with_the_horizon() -> None:
    world = scattered()
    steps(world, 0, 3)
    place_at(world.workers["p3"], np.zeros(DIMENSIONS))
    steps(world, 3, 7)
    assert leaders(world) == ["p3", "p3", "p3", None]
    alone = world.workers["p1"]
    alone.step(0.7 + alone.gossip.strategy.exchange.horizon_s(alone.learner) + 1.0)
    assert alone.gossip.state.leader is None


def test_of_two_peers_the_better_one_leads() -> None:
    world = scattered(names=NAMES[:2])
    steps(world, 0, 4)
    assert leaders(world) == [None, "p0"]


@pytest.mark.parametrize("judge", ["others", "probe"])
def test_on_a_directed_ring_words_come_round(judge: str) -> None:
    """Nobody whom I hear hears me: what my successor measures of my model is passed on by all others."""
    world = scattered("directed_ring", judge=judge)
    steps(world, 0, 6)
    assert leaders(world) == [None, "p0", "p1", "p2"]
    assert points(world)[0, 0] == 1.0


def test_a_word_that_is_passed_on_does_not_count_where_judges_speak_for_themselves() -> None:
    """In the name of others a liar may say what it likes."""
    world = scattered()

    def forge(parcel: Parcel) -> Parcel:
        if not parcel.key:
            return parcel
        tables = [words(dict.fromkeys(NAMES, 0.0) | {"p3": 1.0}, judge)[:4] for judge in NAMES[:3]]
        table = torch.cat([*tables, words({})[12:]])
        return parcel.with_content(payload=pack({"words": table}, "raw"))

    forging(world, "p3", forge)
    for step in range(8):
        world.step(0.1 * step)
        assert "p3" not in leaders(world)
    assert leaders(world)[1:3] == ["p0", "p0"]


def test_where_no_word_comes_round_nobody_leads_and_the_run_says_what_would_help() -> None:
    world = scattered(names=NAMES[:2])
    forging(
        world,
        "p0",
        lambda parcel: parcel.with_content(payload=pack({"words": words({})}, "raw")) if parcel.key else parcel,
    )
    steps(world, 0, 25)
    assert leaders(world) == [None, None]
    (warning,) = [text for text in world.workers["p1"].learner.ledger.warnings if "leads" in text]
    assert 'strategy.judge = "probe"' in warning
    assert not [text for text in world.workers["p0"].learner.ledger.warnings if "leads" in text]


def test_nobody_trains_on_what_it_judges_by() -> None:
    worker = make_digits(Mailbox(), 0, "disjoint", judge="probe", probe_share=0.25)
    assert worker.learner.held_out is not None
    assert worker.learner.examples is not None
    (x, _), (kept, _) = worker.learner.held_out, worker.learner.examples
    assert (len(x), len(kept), worker.draws.rows) == (25, 75, 75)
    assert {tuple(row.tolist()) for row in torch.cat([x, kept]).flatten(1)} == {
        tuple(row.tolist()) for row in worker.task.train[0].flatten(1)
    }
    drawn = torch.cat([worker.draws.at(step) for step in range(30)])
    assert set(drawn.tolist()) == set(range(75))
    again = make_digits(Mailbox(), 0, "disjoint", judge="probe", probe_share=0.25)
    assert torch.equal(again.learner.held_out[0], x)  # type: ignore[index]


def make_digits(
    mailbox: Mailbox, place: int, shards: ShardKind, strategy: str = "leader_sgd", **options: object
) -> Worker:
    """One of four peers with 100 handwritten digits each."""
    task = load_task("digits", Shard(place, 4, shards, 100), {})
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    given = Given(make_strategy(strategy, 10, **options), None, task, model, optimizer, Draws(100, 32, 1 + place))
    return build_worker(WorkerSpec.in_process(NAMES[place], NAMES, {"train.clip_norm": "off"}), mailbox, given)


def trained(shards: ShardKind, strategy: str, byzantine: bool = False, count: int = 300) -> tuple[World, float]:
    """After so many steps, and the mean accuracy of the first three in percent; a liar's weights are all 0."""
    world = World({name: make_digits(Mailbox(), place, shards, strategy) for place, name in enumerate(NAMES)})
    for step in range(count):
        if byzantine:
            with torch.no_grad():
                for parameter in world.workers["p3"].learner.model.parameters():
                    parameter.zero_()
        for worker in world.workers.values():
            worker.step(0.02 * step, step / count)
        for name in NAMES:
            world.carry(name, 0.02 * step)
    return world, 100 * sum(world.workers[name].evaluate()[1]["accuracy"] for name in NAMES[:3]) / 3


@pytest.mark.parametrize(("shards", "least"), [("disjoint", 3.0), ("label_skew", 15.0)])
def test_somebody_leads_in_most_periods_and_it_pays(shards: ShardKind, least: float) -> None:
    """Found here: 0.8 of the exchange periods of a peer; 6 points above training alone, 25 on skewed labels."""
    _, alone = trained(shards, "isolated")
    world, led = trained(shards, "leader_sgd")
    assert led > alone + least
    states = [worker.gossip.state for worker in world.workers.values()]
    led_in = [sum(state.followed.values()) / 30 for state in states]
    assert min(led_in) > 0.2, led_in
    assert sum(led_in) / 4 > 0.5, led_in
    assert len({name for state in states for name in state.followed}) >= 3, "leadership goes round"


@pytest.mark.parametrize(("shards", "least"), [("disjoint", 2.0), ("label_skew", 10.0)])
def test_a_model_that_knows_nothing_leads_nobody_although_it_is_never_confidently_wrong(
    shards: ShardKind, least: float
) -> None:
    """On skewed labels its loss on others' examples is far below that of every honest model."""
    _, alone = trained(shards, "isolated", count=150)
    world, led = trained(shards, "leader_sgd", byzantine=True, count=150)
    honest = [world.workers[name].gossip.state for name in NAMES[:3]]
    assert all(state.followed["p3"] == 0 and sum(state.followed.values()) > 0 for state in honest)
    assert led > alone + least


def test_on_examples_of_which_others_know_nothing_neighbours_lead_in_turn_until_it_shows() -> None:
    """No judge finds any use in any model of another: without turns, nobody would ever lead."""
    world = scattered()
    for place, worker in enumerate(world.workers.values()):  # each has a goal of its own, far from all others
        goal = torch.zeros(DIMENSIONS)
        goal[place] = 10.0
        learn_from(worker, y=goal.repeat(2, 1))
        place_at(worker, goal.double().numpy())
        worker.gossip.state.start_loss = 50.0
    steps(world, 0, 3)
    assert leaders(world) == ["p3", "p0", "p1", "p2"]
    steps(world, 3, 5)
    assert all(
        state.leader is None or state.leader[1] > 0.0 for state in (w.gossip.state for w in world.workers.values())
    )
    assert np.abs(points(world)).max() < 10.0


def test_what_the_untrained_model_lost_is_known_after_a_restart() -> None:
    worker = make_digits(Mailbox(), 0, "disjoint")
    began = worker.gossip.state.start_loss
    assert began == pytest.approx(np.log(10), rel=0.1)
    for step in range(20):
        worker.step(0.1 * step)
    memory = worker.gossip.strategy.remember(worker.gossip.state)
    again = make_digits(Mailbox(), 0, "disjoint")
    again.learner.model.load_state_dict(worker.learner.model.state_dict())
    again.gossip.state = again.gossip.strategy.init(again.learner)
    assert again.gossip.state.start_loss < 0.9 * began
    again.gossip.strategy.recall(again.gossip.state, again.learner, memory)
    assert again.gossip.state.start_loss == began
