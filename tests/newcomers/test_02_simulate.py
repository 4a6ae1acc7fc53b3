"""2. `simulate --steps`: its end, its pace, its momentum, its help; and each key of [train] that it does not use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gossipdistill.assembly.worker import build_worker
from gossipdistill.cli.simulating import READY_MADE
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.config.schema import TrainKeys
from gossipdistill.mailbox import Mailbox
from gossipdistill.sim.checkers import FaultsRecover
from gossipdistill.simulation.run import SIMULATED, Simulation, load_plan, plan_simulation
from gossipdistill.training.worker import Worker
from tests.newcomers.common import simulated


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_simulation_of_so_many_steps_ends_with_them_and_divides_by_the_time_they_took(
    seconds: float | None, tmp_path: Path
) -> None:
    run = simulated(tmp_path, steps=30, seconds=seconds)
    assert (run.summary.exit_code, run.figures.violations) == (0, [])
    assert [(peer.status, peer.steps) for peer in run.summary.peers] == [("finished", 30)] * 3
    slowest_s = max(peer.wall_s or 0.0 for peer in run.summary.peers)
    assert run.figures.virtual_s == pytest.approx(slowest_s + 1.0, abs=0.01)
    assert all(9.0 < peer.steps_per_s < 11.5 for peer in run.summary.peers)  # sim.step_time_s is 0.1
    again = simulated(tmp_path, steps=30, seconds=seconds)
    assert run.figures.virtual_s == again.figures.virtual_s


SILENT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "steps that end before views are right": ({"steps": 40, "seconds": 60.0}, []),
    "an exchange that never comes": ({"seconds": 40.0}, ["exchange.every_steps=1000"]),
    "a strategy without helpers": ({"seconds": 40.0, "strategy": "concurrent_adversarial", "task": "digits"}, []),
    "a cap of one in a thousand seconds": ({"seconds": 40.0}, ["exchange.per_second_max=0.001"]),
}


@pytest.mark.parametrize("what", SILENT)
def test_nothing_is_violated_where_nothing_was_to_be_said(what: str, tmp_path: Path) -> None:
    asked, settings = SILENT[what]
    run = simulated(tmp_path, *settings, "train.step_time_s=0.5", **asked)
    assert run.figures.violations == []


def test_silence_where_something_was_posted_is_still_violated(tmp_path: Path) -> None:
    run = Simulation(plan_simulation(Asked(peers="3", seconds=60.0, settings=["train.step_time_s=0.5"], out=tmp_path)))
    checker = next(one for one in run.checkers if isinstance(one, FaultsRecover))
    run.world.hooks.on_received.remove(checker.on_received)
    assert run.run() == 1
    assert any("nothing at all has arrived" in text for text in run.figures.violations)


SHARED: dict[str, Any] = {
    "optimizer": "adam",
    "optimizer_options": {"eps": 0.01},
    "lr": 0.3,
    "momentum": 0.4,
    "weight_decay": 0.2,
    "lr_schedule": "drops",
    "lr_drops": (0.2, 0.3),
    "batch_size": 7,
    "accumulate": 3,
    "clip_norm": 2.0,
    "autocast": "bfloat16",
}
"""Keys of [train] that build a worker, and a value other than the default."""
OWN = {"step_time_s", "checkpoint_every_s", "threads"}
"""Those that the simulation reads itself."""
TOLD = {"checkpoints_kept"}


def test_each_key_of_train_means_the_same_in_a_simulation_or_is_told(tmp_path: Path) -> None:
    assert set(TrainKeys.model_fields) == set(SHARED) | OWN | TOLD
    settings = [f"train.{key}={json.dumps(value)}" for key, value in SHARED.items() if key != "optimizer_options"]
    settings += ["train.optimizer_options.eps=0.01", "task.shards=label_skew", "task.examples_per_peer=100"]

    def figures(worker: Worker) -> list[object]:
        group = worker.learner.optimizer.param_groups[0]
        chosen = [group[key] for key in ("lr", "betas", "eps", "weight_decay")]
        draws = (worker.draws.rows, worker.draws.batch_size, worker.draws.seed)
        return [type(worker.learner.optimizer), chosen, worker.cosine, worker.rate_drops, worker.gradient, draws]

    asked = Asked(
        peers="2", topology="complete", task="digits", strategy="sgp", steps=5, settings=settings, out=tmp_path
    )
    real = build_worker(plan_local(asked)[0], Mailbox())
    run = Simulation(plan_simulation(asked))
    run.world.start_all()
    assert figures(run.peers["ada"].worker) == figures(real)
    assert type(real.learner.optimizer) is torch.optim.Adam
    told = plan_simulation(replace(asked, settings=["train.checkpoints_kept=9"]))[0].notices
    assert [key for key in TOLD if any(f"train.{key} is not used" in notice for notice in told)] == sorted(TOLD)


def test_a_simulation_without_a_run_file_trains_as_run_does_and_its_help_says_what(tmp_path: Path) -> None:
    config = plan_simulation(Asked(peers="2", out=tmp_path))[0].config
    assert config.train == TrainKeys()
    for value in (SIMULATED["peers"], SIMULATED["strategy.name"], SIMULATED["task.name"], SIMULATED["topology"]):
        assert str(value) in READY_MADE
    assert f"{SIMULATED['seconds']:g} virtual seconds" in READY_MADE


ROSTER = {"ada": "", "bo": "slowdown = 5.0", "cy": 'device = "cuda:3"'}


def test_what_a_real_run_would_do_otherwise_is_told(tmp_path: Path) -> None:
    entries = [f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:0"\n{more}\n' for name, more in ROSTER.items()]
    (tmp_path / "three.toml").write_text("".join(entries))
    specs = plan_simulation(Asked(peers="three.toml", steps=20, settings=["linger_s=2.0"], out=tmp_path))
    assert specs[0].notices == ("cy: device = cuda:3 is not used, as a simulation computes on the CPU",)
    run = Simulation(specs)
    assert run.run() == 0
    assert run.figures.notes[0].startswith("2 peers were done more than linger_s = 2 s before the last")
    real = plan_local(Asked(peers="2", settings=["sim.loss=0.5"], out=tmp_path))
    assert "sim.loss is not used here: it is for gossipdistill simulate" in real[0].notices


def test_a_process_that_is_started_again_follows_the_clock_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[[fault]]\nkind = "kill"\npeer = "bo"\nat_s = 5\nrestart_after_s = 2\n')
    specs = plan_simulation(Asked(peers="3", seconds=10.0, out=tmp_path))
    run = Simulation(specs, load_plan(specs, str(tmp_path / "plan.toml")))
    assert run.run() == 0
    rates = {name: peer.worker.learner.optimizer.param_groups[0]["lr"] for name, peer in run.peers.items()}
    assert rates["bo"] == pytest.approx(rates["ada"], abs=1e-4)
    assert rates["bo"] < 1e-3  # the cosine ends with the run
