"""`gossipdistill simulate`: real workers in virtual time, and what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossipdistill.config.plan import Asked
from gossipdistill.errors import ConfigError, NeedsError
from gossipdistill.observe import simulated
from gossipdistill.observe.story import tell
from gossipdistill.simulation.run import Simulation, load_plan, plan_simulation

PLAN = """
[[fault]]
kind = "kill"
peer = "bo"
at_s = 3
restart_after_s = 4
"""


def simulation(out: Path, *settings: str, faults: str | None = None, **asked: object) -> Simulation:
    fields = {"peers": "6", "seconds": 10.0} | asked
    specs = plan_simulation(Asked(settings=settings, out=out, **fields))  # type: ignore[arg-type]
    return Simulation(specs, load_plan(specs, faults))


def test_sgp_approaches_the_optimum_and_conserves_mass_through_a_kill(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    run = simulation(tmp_path, faults=str(plan))
    assert run.run() == 0
    sim = run.figures
    assert sim.violations == []
    assert sim.mass_error is not None
    assert sim.mass_error < 1e-9
    distance = sim.per_peer["distance_to_optimum"]
    assert distance is not None
    assert distance.mean < 1.0
    assert [peer.incarnations for peer in run.summary.peers] == [1, 2, 1, 1, 1, 1]
    folder = tmp_path / str(run.summary.name)
    assert json.loads((folder / "summary.json").read_text())["simulation"]["virtual_s"] == 10.0
    assert any("restarted" in line for line in tell(folder, "bo"))


def test_equal_seeds_give_equal_results(tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        run = simulation(tmp_path, "sim.loss=0.1", seconds=5.0)
        run.run()
        results.append((run.figures.curve, run.figures.messages))
    assert results[0] == results[1]


def test_a_straggler_keeps_its_own_pace_and_nobody_waits(tmp_path: Path) -> None:
    run = simulation(tmp_path, "sim.straggler_share=0.4", "sim.straggler_factor=5", strategy="gossip_averaging")
    assert run.run() == 0
    paces = sorted(peer.steps_per_s for peer in run.summary.peers)
    assert paces[-1] > 4 * paces[0]


def test_a_newcomer_that_asks_for_a_model_over_lossy_links_is_not_taken_for_one_that_waits(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    lossy = '[[fault]]\nkind = "drop"\nlink = ["*", "*"]\nprobability = 0.1\nfrom_s = 2\n'
    plan.write_text('[[fault]]\nkind = "kill"\npeer = "bo"\nat_s = 2\nrestart_after_s = 1\n' + lossy)
    often = ("exchange.every_steps=2", "exchange.per_second_max=0")
    run = simulation(tmp_path, *often, faults=str(plan), peers="2", seconds=6.0, seed=7, strategy="gossip_averaging")
    assert run.run() == 0, run.figures.violations


def test_one_who_has_done_its_steps_waits_for_nobody(tmp_path: Path) -> None:
    run = simulation(tmp_path, steps=20)
    assert run.run() == 0, run.figures.violations
    assert {(peer.status, peer.steps) for peer in run.summary.peers} == {("finished", 20)}


def test_the_ends_of_peers_are_judged_as_those_of_a_real_run(tmp_path: Path) -> None:
    run = simulation(tmp_path, "train.lr=1e12", seconds=3.0)
    assert run.run() == 10
    assert {peer.status for peer in run.summary.peers} == {"diverged"}
    assert run.figures.violations == []
    short = simulation(tmp_path, "exchange.every_steps=100", seconds=3.0)
    assert short.run() == 0
    assert all("exchange is due at step 100" in peer.warnings[-1] for peer in short.summary.peers)


def test_what_a_learner_has_to_say_is_among_the_events(tmp_path: Path) -> None:
    settings = ("strategy.burn_in_steps=15", "exchange.every_steps=2", "task.transfer_examples=50")
    run = simulation(
        tmp_path,
        *settings,
        peers="2",
        task="digits",
        strategy="codistill_predictions",
        topology="complete",
        seconds=4.0,
    )
    assert run.run() == 0
    folder = tmp_path / str(run.summary.name)
    for peer, other in (("ada", "bo"), ("bo", "ada")):
        events = [json.loads(line) for line in (folder / peer / "events.jsonl").read_text().splitlines()]
        told = [(event["kind"], event["peer"]) for event in events if event["kind"] in ("left_out", "listened_to")]
        assert told == [("left_out", other), ("listened_to", other)]


def test_a_strategy_that_exchanges_nothing_violates_nothing(tmp_path: Path) -> None:
    run = simulation(tmp_path, peers="3", seconds=60.0, strategy="isolated")
    assert run.run() == 0
    assert run.figures.violations == []
    assert [peer.parcels_used for peer in run.summary.peers] == [0, 0, 0]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    run = simulation(tmp_path, seconds=3.0)
    run.run()
    simulated.plot(run.summary, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_stopping_leaves_what_there_is(tmp_path: Path) -> None:
    run = simulation(tmp_path, seconds=1000.0)
    run.stopped = lambda: run.world.now > 1.0
    assert run.run() == 130
    assert {peer.status for peer in run.summary.peers} == {"interrupted"}


def test_addresses_are_not_simulated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no addresses"):
        simulation(tmp_path, peers="127.0.0.1:7400")


def test_a_collective_is_not_simulated(tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match="transport of its own"):
        simulation(tmp_path, strategy="all_reduce")
