"""What newcomers did that went wrong, one heading per line of a list; each stands for its kind."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

import gossipdistill
from gossipdistill.cli.entry import app
from gossipdistill.cli.simulating import READY_MADE
from gossipdistill.errors import ConfigError
from gossipdistill.launch.building import build_learner, build_schedule, build_task, build_worker
from gossipdistill.launch.compare import POOLED, Comparison, Row
from gossipdistill.launch.local import Child, LocalRun, WorkerError
from gossipdistill.launch.plan import Asked, plan_local, plan_worker
from gossipdistill.launch.preflight import check, title_of
from gossipdistill.launch.release import Release
from gossipdistill.launch.run_config import TrainKeys
from gossipdistill.launch.simulation import SIMULATED, Simulation, load_plan, plan_simulation
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.launch.stopping import StopRequest
from gossipdistill.launch.threads import VARIABLES, Cpus, choose, cpu_quota
from gossipdistill.launch.worker_process import WorkerProcess
from gossipdistill.mailbox import Mailbox
from gossipdistill.observe.dealt import data_words
from gossipdistill.observe.notices import AGAIN_AFTER_S, HOLD_S, Notices, merged
from gossipdistill.sim.checkers import FaultsRecover
from gossipdistill.worker import Worker

TASK = """
import torch
from torch import nn

from gossipdistill import Task


def task(shard, dealt: bool = True) -> Task:
    x, y = torch.randn(11000, 2, generator=torch.Generator().manual_seed(1)), torch.arange(11000) % 2
    mine = shard.deal(y[:10000]) if dealt else torch.arange(50)
    return Task(
        model=lambda: nn.Linear(2, 2), train=(x[mine], y[mine]), transfer=x[10000:10500],
        validation=(x[10500:], y[10500:]), loss=nn.functional.cross_entropy,
    )


def heights(shard) -> Task:
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
    mine = shard.deal(x[:900, 0])
    return Task(
        model=lambda: nn.Linear(2, 1), train=(x[mine], x[mine, :1]), validation=(x[900:], x[900:, :1]),
        loss=nn.functional.mse_loss,
    )
"""


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, a machine that is idle, and nothing said by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for key in ("GOSSIPDISTILL_SET", "GOSSIPDISTILL_PEERS", "GOSSIPDISTILL_LISTEN", *VARIABLES):
        monkeypatch.delenv(key, raising=False)


def comparison(tmp_path: Path, topology: str, strategies: list[str], **asked: Any) -> Comparison:
    return Comparison(
        Asked(topology=topology, steps=5, out=tmp_path, **asked), strategies, [0], lambda _: lambda *_: None
    )


# --- 1. compare with a topology that names peers fails on its own default row `pooled` --------------------------------

TOPOLOGIES = {
    "edges": 'kind = "edges"\nboth_ways = true\nedges = [["ada", "bo"], ["cy", "dee"], ["bo", "cy"]]\n',
    "hub": 'kind = "star"\nhub = "bo"\n',
    "phases": 'kind = "phases"\nboth_ways = true\nphases = [[["ada", "bo"], ["cy", "dee"]], [["bo", "cy"]]]\n',
    "degree": 'kind = "random_regular"\ndegree = 3\n',
    "grid": 'kind = "torus"\nrows = 2\n',
}


@pytest.mark.parametrize("kind", TOPOLOGIES)
def test_the_pooled_row_needs_nothing_of_a_topology(kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TOPOLOGIES[kind])
    compared = comparison(tmp_path, "mine.toml", ["isolated", POOLED])
    for name in compared.strategies:
        specs = compared._plan(Row(name, 0))
        assert check(specs).examples["used"] == (400 if name == POOLED else 100)
    (alone,) = specs
    assert build_schedule(alone, alone.config.make_strategy()).out_neighbours("ada", 0) == ()
    assert alone.resolved.as_json()["topology"] == {"value": "complete", "from": "compare: one worker alone"}


# --- 2. simulate ------------------------------------------------------------------------------------------------------


def simulated(tmp_path: Path, *settings: str, **asked: Any) -> dict[str, Any]:
    run = Simulation(plan_simulation(Asked(**({"peers": "3", "settings": settings, "out": tmp_path} | asked))))
    assert run.run() == run.summary["exit_code"]
    return run.summary


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_simulation_of_so_many_steps_ends_with_them_and_divides_by_the_time_they_took(
    seconds: float | None, tmp_path: Path
) -> None:
    summary = simulated(tmp_path, steps=30, seconds=seconds)
    assert (summary["exit_code"], summary["simulation"]["violations"]) == (0, [])
    assert [(peer["status"], peer["steps"]) for peer in summary["peers"]] == [("finished", 30)] * 3
    slowest_s = max(peer["wall_s"] for peer in summary["peers"])
    assert summary["simulation"]["virtual_s"] == pytest.approx(slowest_s + 1.0, abs=0.01)
    assert all(9.0 < peer["steps_per_s"] < 11.5 for peer in summary["peers"])  # sim.step_time_s is 0.1
    again = simulated(tmp_path, steps=30, seconds=seconds)
    assert summary["simulation"]["virtual_s"] == again["simulation"]["virtual_s"]


SILENT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "steps that end before views are right": ({"steps": 40, "seconds": 60.0}, []),
    "an exchange that never comes": ({"seconds": 40.0}, ["exchange.every_steps=1000"]),
    "a strategy without helpers": ({"seconds": 40.0, "strategy": "concurrent_adversarial", "task": "digits"}, []),
    "a cap of one in a thousand seconds": ({"seconds": 40.0}, ["exchange.per_second_max=0.001"]),
}


@pytest.mark.parametrize("what", SILENT)
def test_nothing_is_violated_where_nothing_was_to_be_said(what: str, tmp_path: Path) -> None:
    asked, settings = SILENT[what]
    summary = simulated(tmp_path, *settings, "train.step_time_s=0.5", **asked)
    assert summary["simulation"]["violations"] == []


def test_silence_where_something_was_posted_is_still_violated(tmp_path: Path) -> None:
    run = Simulation(plan_simulation(Asked(peers="3", seconds=60.0, settings=["train.step_time_s=0.5"], out=tmp_path)))
    checker = next(one for one in run.checkers if isinstance(one, FaultsRecover))
    run.world._on_arrival = tuple(hook for hook in run.world._on_arrival if hook != checker.on_arrival)
    assert run.run() == 1
    assert any("nothing at all has arrived" in text for text in run.summary["simulation"]["violations"])


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
    )  # fmt: skip
    spec = plan_local(asked)[0]
    strategy = spec.config.make_strategy()
    task = build_task(spec, strategy)
    schedule = build_schedule(spec, strategy)
    real = build_worker(spec, strategy, task, *build_learner(spec, strategy, task), schedule, Mailbox())
    run = Simulation(plan_simulation(asked))
    run.world.start_all()
    assert figures(run._peers["ada"].worker) == figures(real)
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
    assert run.summary["simulation"]["notes"][0].startswith(
        "2 peers were done more than linger_s = 2 s before the last"
    )
    real = plan_local(Asked(peers="2", settings=["sim.loss=0.5"], out=tmp_path))
    assert "sim.loss is not used here: it is for gossipdistill simulate" in real[0].notices


def test_a_process_that_is_started_again_follows_the_clock_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[[fault]]\nkind = "kill"\npeer = "bo"\nat_s = 5\nrestart_after_s = 2\n')
    specs = plan_simulation(Asked(peers="3", seconds=10.0, out=tmp_path))
    run = Simulation(specs, load_plan(specs, str(tmp_path / "plan.toml")))
    assert run.run() == 0
    rates = {name: peer.worker.learner.optimizer.param_groups[0]["lr"] for name, peer in run._peers.items()}
    assert rates["bo"] == pytest.approx(rates["ada"], abs=1e-4)
    assert rates["bo"] < 1e-3  # the cosine ends with the run


# --- 3. threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "starting", "cpus", "environ", "count", "origin"),
    [
        (1, 1, Cpus(8), {}, 8, "8 CPUs for 1 peer here"),
        (4, 4, Cpus(8), {}, 2, "8 CPUs for 4 peers here"),
        (9, 9, Cpus(8), {}, 1, "8 CPUs for 9 peers here"),
        (1, 1, Cpus(2, busy=1.0), {}, 1, "2 of them busy with other work"),
        (1, 1, Cpus(16, busy=0.75), {}, 4, "12 of them busy with other work"),
        (2, 2, Cpus(16, busy=0.75), {}, 2, "12 of them busy with other work"),
        (4, 1, Cpus(16, busy=0.75), {}, 4, "16 CPUs for 4 peers here"),  # a restarted one: the load is its neighbours
        (1, 1, Cpus(2, busy=0.1), {}, 2, "2 CPUs for 1 peer here"),
        (1, 1, Cpus(8, busy=1.0), {"OMP_NUM_THREADS": "3"}, 3, "environment OMP_NUM_THREADS"),
        (4, 4, Cpus(8), {"OMP_NUM_THREADS": "6,2"}, 6, "environment OMP_NUM_THREADS"),
        (4, 4, Cpus(8), {"MKL_NUM_THREADS": "5"}, 5, "environment MKL_NUM_THREADS"),
        (4, 4, Cpus(8), {"MKL_NUM_THREADS": "5", "OMP_NUM_THREADS": "7"}, 7, "environment OMP_NUM_THREADS"),
    ],
)
def test_threads_follow_the_environment_else_the_free_cpus(
    peers: int, starting: int, cpus: Cpus, environ: dict[str, str], count: int, origin: str
) -> None:
    threads = choose(peers, starting, cpus, environ)
    assert threads.count == count
    assert origin in threads.origin


def test_who_has_few_threads_or_a_wrong_variable_is_told() -> None:
    assert choose(1, 1, Cpus(2), {}).notice == ""
    assert "1 thread for each peer (train.threads = N" in choose(1, 1, Cpus(2, busy=1.0), {}).notice
    wrong = choose(1, 1, Cpus(4), {"OMP_NUM_THREADS": "all"})
    assert (wrong.count, wrong.notice) == (4, "OMP_NUM_THREADS = 'all' is no number of threads and is not used")


def test_the_key_stands_above_all_and_what_is_used_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipdistill.launch.plan.Cpus.read", lambda: Cpus(8, busy=1.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "6")

    def recorded(*settings: str) -> dict[str, Any]:
        spec = plan_local(Asked(peers="2", settings=settings, out=tmp_path))[1]
        assert WorkerSpec.from_json(spec.to_json()).threads == spec.threads
        entry: dict[str, Any] = spec.resolved.as_json()["train.threads"]
        return entry

    assert recorded() == {"value": 6, "from": "environment OMP_NUM_THREADS"}
    assert recorded("train.threads=3") == {"value": 3, "from": "command line"}
    monkeypatch.delenv("OMP_NUM_THREADS")
    busy = plan_local(Asked(peers="2", out=tmp_path))
    assert [spec.threads for spec in busy] == [1, 1]
    assert busy[0].notices == busy[1].notices != ()
    assert "1 thread each" in title_of(busy, check(busy))
    alone = plan_worker(Asked(out=tmp_path, settings=["train.threads=5"]), "ada", None, None, "1/3", 1, 0.0, True)
    assert alone.threads == 5


def test_rows_of_a_comparison_have_the_threads_of_its_start(tmp_path: Path) -> None:
    compared = comparison(tmp_path, "complete", ["isolated", POOLED], peers="4")
    compared.cpus = Cpus(8)
    assert [compared._plan(Row(name, 0))[0].threads for name in compared.strategies] == [2, 8]


def test_quotas_of_control_groups_bound_the_cpus(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"

    def quota(listed: str, **files: str) -> float | None:
        own.write_text(listed)
        for name, text in files.items():
            file = root / name.replace("__", "/").replace("cpu_", "cpu.")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return cpu_quota(own, root)

    assert quota("0::/\n") is None
    assert quota("0::/a/b\n", a__b__cpu_max="max 100000\n") is None
    assert quota("0::/a/b\n", a__cpu_max="250000 100000\n") == 2.5
    assert quota("0::/a/b\n", a__b__cpu_max="150000 100000\n") == 1.5
    old = {"cpu__cpu_cfs_quota_us": "-1\n", "cpu__cpu_cfs_period_us": "100000\n"}
    assert quota("2:cpuset:/\n1:cpu:/\n", **old) is None
    assert quota("2:cpuset:/\n1:cpu:/\n", **(old | {"cpu__cpu_cfs_quota_us": "300000\n"})) == 3.0
    assert Cpus.read().usable <= (os.cpu_count() or 1)


# --- 5. and 7. how much data ------------------------------------------------------------------------------------------


def examples_of(asked: Asked) -> dict[str, int | None]:
    return check(plan_local(asked)).examples


def test_more_peers_than_the_ready_made_run_was_written_for_have_smaller_shards_and_are_told(tmp_path: Path) -> None:
    specs = plan_local(Asked(topology="torus", peers="9", out=tmp_path))
    findings = check(specs)
    assert findings.examples == {"used": 88, "pool": 800, "asked": 100, "transfer": 600}
    assert "88 of 800 labelled examples each, mostly of 3 classes (100 were asked for" in title_of(specs, findings)
    (tmp_path / "run.toml").write_text('peers = "4"\nsteps = 5\n[task]\nname = "digits"\nexamples_per_peer = 150\n')
    assert examples_of(Asked(tmp_path / "run.toml", peers="16", out=tmp_path))["used"] == 50
    with pytest.raises(ConfigError, match="a pool of 800 examples is too small for 900 shards"):
        examples_of(Asked(peers="900", out=tmp_path))


def test_a_number_that_the_user_asks_for_with_these_peers_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="9 x 100 examples are more than the pool of 800; accepted: 1 to 88"):
        examples_of(Asked(peers="9", settings=["task.examples_per_peer=100"], out=tmp_path))
    (tmp_path / "run.toml").write_text('peers = "4"\nsteps = 5\n[task]\nname = "digits"\nexamples_per_peer = 900\n')
    with pytest.raises(ConfigError, match="accepted: 1 to 200"):
        examples_of(Asked(tmp_path / "run.toml", out=tmp_path))


@pytest.mark.parametrize("peers", [1, 4, 7])
def test_a_task_of_the_users_takes_all_its_data_and_the_title_says_how_much(peers: int, tmp_path: Path) -> None:
    (tmp_path / "mine_all.py").write_text(TASK)
    specs = plan_local(Asked(task="mine_all:task", peers=str(peers), out=tmp_path))
    findings = check(specs)
    each = 10_000 // peers
    assert findings.examples == {"used": each, "pool": 10_000, "asked": None, "transfer": 500}
    assert f"; {each:,} of 10,000 labelled examples each; 500 unlabelled ones shared;" in title_of(specs, findings)
    assert build_task(specs[0], specs[0].config.make_strategy()).examples() == findings.examples
    fewer = plan_local(Asked(task="mine_all:task", settings=["task.examples_per_peer=70"], out=tmp_path))
    assert "; 70 of 10,000 labelled examples each;" in title_of(fewer, check(fewer))
    own = plan_local(Asked(task="mine_all:task", settings=["task.dealt=false"], out=tmp_path))
    assert "; 50 labelled examples each;" in title_of(own, check(own))


def test_the_ready_made_run_says_nothing_about_the_data_of_another_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_line.py").write_text(TASK)
    line = {"task": "mine_line:heights", "strategy": "gossip_averaging", "out": tmp_path}
    assert examples_of(Asked(**line))["used"] == 225  # and is not refused because its labels cannot be skewed
    monkeypatch.setenv("GOSSIPDISTILL_SET", "task=mine_line:heights strategy=gossip_averaging")
    assert examples_of(Asked(out=tmp_path))["used"] == 225
    monkeypatch.delenv("GOSSIPDISTILL_SET")
    assert examples_of(Asked(task="digits", out=tmp_path))["used"] == 100


def test_results_say_how_much_data_was_used() -> None:
    one = {"used": 88, "pool": 800, "asked": 88, "transfer": 0}
    assert data_words([one, None, one]) == "88 of 800 labelled examples each"
    assert data_words([one, one | {"used": 90}], "same") == "88 to 90 of 800 labelled examples each, the same for all"
    alone = {"used": 1, "pool": None, "asked": None, "transfer": 7}
    assert data_words([alone]) == "1 labelled example each; 7 unlabelled ones shared"
    assert data_words([None]) == ""


# --- 8. advice that exists, and once ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("by_run", "advice"), [(True, "anew without --resume"), (False, "anew with --fresh")])
def test_what_is_advised_when_no_checkpoint_can_be_used_exists(by_run: bool, advice: str, tmp_path: Path) -> None:
    spec = replace(plan_local(Asked(peers="2", out=tmp_path))[0], resume=True, released_by_launcher=by_run)
    torn = spec.folder / "checkpoints"
    torn.mkdir(parents=True)
    (torn / "1796062757184-1.json").write_text("{")
    (torn / "1796062757184-1.safetensors").write_bytes(b"junk")
    with pytest.raises(ConfigError, match=advice):
        WorkerProcess(spec, lambda record: None, StopRequest(), Release()).run()


def test_every_option_that_a_message_names_is_one_of_some_command() -> None:
    known = {name for command in commands(get_command(app)) for option in command.params for name in option.opts}
    named: dict[str, set[str]] = {}
    package = Path(gossipdistill.__file__).parent
    for file in (one for part in ("cli", "launch", "observe", "tasks") for one in (package / part).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value):
                    named.setdefault(option, set()).add(file.name)
    assert len(named) > 15
    assert {option: files for option, files in named.items() if option not in known | {"--help", "--cpus"}} == {}


def commands(root: Any) -> list[Any]:
    inner = getattr(root, "commands", {}).values()
    return [root, *(command for one in inner for command in commands(one))]


def test_a_reason_that_ends_a_run_before_it_begins_is_told_once(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    specs = plan_local(Asked(peers="2", out=tmp_path))
    run = LocalRun(specs, tmp_path, lambda name, record: told.append(record))
    ended = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    ended.wait()
    run._children = {spec.name: Child(spec, ended) for spec in specs}
    for name in ("ada", "bo"):
        run._records.put((name, ended.pid, {"type": "error", "exit_code": 3, "message": "no such key"}))
    run._records.put(("ada", ended.pid, None))
    run._turn()
    run._turn()
    with pytest.raises(WorkerError, match="no such key") as raised:
        run._turn()
    assert raised.value.exit_code == 3
    assert told == []
    assert ended.stdin is not None
    ended.stdin.close()


def test_what_several_peers_say_alike_is_told_once() -> None:
    notices = Notices()
    notices.add(0.0, 3.0, "ada", "resumed")
    notices.add(0.1, 3.1, "bo", "resumed")
    notices.add(0.1, 3.1, "ada", "warning")
    assert notices.due(HOLD_S / 2) == []
    assert notices.due(HOLD_S + 0.1) == [(3.0, ("ada", "bo"), "resumed"), (3.1, ("ada",), "warning")]
    notices.add(1.0, 4.0, "cy", "resumed")
    assert notices.due(math.inf) == []
    notices.add(1.0, 4.0, "ada", "resumed")  # it happened to ada again
    assert [notice.names for notice in notices.due(math.inf)] == [("ada",)]
    later = Notices()
    later.add(0.0, 0.0, "ada", "lost bo")
    assert len(later.due(1.0)) == 1
    later.add(1.1 + AGAIN_AFTER_S, 9.0, "bo", "lost bo")
    assert len(later.due(math.inf)) == 1


def test_warnings_that_are_alike_are_one_line_of_the_table() -> None:
    said = [("ada", "x"), ("bo", "x"), ("cy", "x"), ("cy", "y")]
    assert merged(said, 3) == ["all 3 peers: x", "cy: y"]
    assert merged(said, 4) == ["ada, bo, cy: x", "cy: y"]
    assert merged([("ada", "x"), ("ada", "x")], 1) == ["ada: x"]
