"""From what was typed to what each worker is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from gossipdistill.assembly.building import build_learner, build_model, build_schedule, build_task, fingerprint_of
from gossipdistill.config.layers import Layer, environment_layers, parse_settings
from gossipdistill.config.origins import Origin, Source, chosen
from gossipdistill.config.plan import Asked, plan_local, plan_worker, settle
from gossipdistill.config.resolving import resolve
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.tables import flatten, nest
from gossipdistill.config.threads import VARIABLES, Cpus
from gossipdistill.errors import ConfigError, NeedsError, UsageError
from gossipdistill.launchers.compare import POOLED, Comparison, Row
from gossipdistill.launchers.preflight import check
from gossipdistill.learning.snapshot import weights_hash
from gossipdistill.observe.records import VerdictRecord
from gossipdistill.observe.report import summarise, unknown_peer
from gossipdistill.presence import NOWHERE, Address

ROSTER = """
[[peer]]
name = "ada"
address = "127.0.0.1:0"
set = { "task.model" = "cnn", "train.lr" = 0.4, "train.momentum" = 0.4, "train.batch_size" = 4 }

[[peer]]
name = "bo"
address = "127.0.0.1:0"
slowdown = 3.0
"""
RUN = """
peers = "two.toml"
steps = 10

[train]
lr = 0.3
momentum = 0.3
batch_size = 3
weight_decay = 0.3

[strategy]
name = "codistill_predictions"
temperature = 2.0
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("SET", "PEERS", "LISTEN"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/two.toml").write_text(ROSTER)
    (tmp_path / "files/run.toml").write_text(RUN)
    return tmp_path / "files/run.toml"


def test_precedence_and_origins(run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSIPDISTILL_SET", "train.lr=0.2 train.batch_size=2")
    ada, bo = plan_local(Asked(run_file=run_file, settings=("train.lr=0.1",), out=tmp_path))
    told = ada.resolved.as_json()
    assert told["train.lr"] == {"value": 0.1, "from": "command line"}
    assert told["train.batch_size"] == {"value": 2, "from": "environment GOSSIPDISTILL_SET"}
    assert told["train.momentum"] == {"value": 0.4, "from": "roster entry of ada"}
    assert told["train.weight_decay"] == {"value": 0.3, "from": f"run file {run_file}"}
    assert told["train.optimizer"] == {"value": "sgd", "from": "default"}
    assert bo.resolved.as_json()["train.momentum"] == {"value": 0.3, "from": f"run file {run_file}"}
    assert (ada.slowdown, bo.slowdown) == (1.0, 3.0)
    assert ada.released_by_launcher


def test_peers_from_the_environment_stand_below_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSIPDISTILL_PEERS", "3")
    assert resolve(Asked().layers()).as_json()["peers"] == {"value": "3", "from": "environment GOSSIPDISTILL_PEERS"}
    assert resolve(Asked(peers="2").layers()).as_json()["peers"] == {"value": "2", "from": "command line"}


def test_a_specification_survives_its_way_to_the_worker(run_file: Path, tmp_path: Path) -> None:
    (spec, _) = plan_local(Asked(run_file=run_file, out=tmp_path))
    again = WorkerSpec.from_json(spec.to_json())
    assert again.config == spec.config
    assert again.resolved.origins == spec.resolved.origins
    assert (again.listen, again.addresses, again.folder) == (spec.listen, spec.addresses, spec.folder)


def test_planning_and_checking_write_nothing_and_settling_never_shares_a_folder(tmp_path: Path) -> None:
    asked = Asked(peers="2", out=tmp_path / "runs", steps=5)
    planned = plan_local(asked)
    check(planned)
    assert not (tmp_path / "runs").exists()
    folders = [settle(planned)[0].folder for _ in range(3)]
    assert [folder.parent.name for folder in folders] == ["first-light", "first-light-2", "first-light-3"]
    assert settle(planned)[1].config.name == "first-light-4"


def test_who_listens_nowhere_advertises_nothing(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(
        '[[peer]]\nname = "ada"\naddress = "127.0.0.1:23000"\n[[peer]]\nname = "bo"\nlisten = "none"\n'
    )
    asked, rest = Asked(peers=str(tmp_path / "lab.toml"), out=tmp_path), (None, 1, 60.0, False)
    for name, listen in ("bo", None), ("ada", "none"):
        spec = plan_worker(asked, name, listen, None, *rest)
        assert (spec.listen, spec.advertise) == (NOWHERE, NOWHERE)
        assert spec.addresses == (Address("127.0.0.1", 23000), NOWHERE)
        assert WorkerSpec.from_json(spec.to_json()).listen == NOWHERE
    spec = plan_worker(asked, "bo", "127.0.0.1:23002", None, *rest)
    assert spec.listen == spec.advertise == Address("127.0.0.1", 23002)
    assert [spec.listen.host for spec in plan_local(asked)] == ["127.0.0.1", ""]
    with pytest.raises(UsageError, match=r"leave out --advertise 127\.0\.0\.1:23002"):
        plan_worker(asked, "bo", None, "127.0.0.1:23002", *rest)
    seedless = Asked(out=tmp_path)
    with pytest.raises(UsageError, match="must dial somebody: give --peers HOST:PORT"):
        plan_worker(seedless, "bo", "none", None, "1/2", 1, 60.0, False)


def test_a_collective_gets_a_meeting_place_that_was_never_used(tmp_path: Path) -> None:
    planned = plan_local(Asked(peers="2", strategy="all_reduce", out=tmp_path))
    places = {settle(planned)[0].config.strategy.model_extra["rendezvous"] for _ in range(2)}  # type: ignore[index]
    assert len(places) == 2
    assert all(place.startswith(f"file://{tmp_path}") for place in places)


def test_workers_of_one_machine_divide_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipdistill.config.plan.Cpus.read", lambda: Cpus(8))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "two.toml").write_text(ROSTER.replace(":0", ":29998", 1).replace(":0", ":29996"))
    assert [spec.threads for spec in plan_local(Asked(peers="4", out=tmp_path))] == [2, 2, 2, 2]
    arguments = (None, None, None, 1, 60.0, False)
    assert plan_worker(Asked(peers=str(tmp_path / "two.toml"), out=tmp_path), "ada", *arguments).threads == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert plan_worker(Asked(peers=str(tmp_path / "two.toml"), out=tmp_path), "ada", *arguments).threads == 1


def test_rows_of_a_comparison_begin_with_the_same_weights_and_data(tmp_path: Path) -> None:
    comparison = Comparison(Asked(peers="2", steps=5, out=tmp_path), ["isolated"], [0], lambda title: lambda *_: None)

    def first_weights(name: str) -> list[torch.Tensor]:
        models = []
        for spec in comparison.plan(Row(name, 0)):
            strategy = spec.config.make_strategy()
            models.append(build_model(spec, strategy, build_task(spec, strategy)))
        return [torch.cat([p.flatten() for p in model.parameters()]) for model in models]

    alone, taught = first_weights("isolated"), first_weights("codistill_predictions")
    assert all(torch.equal(a, b) for a, b in zip(alone, taught, strict=True))
    assert not torch.equal(alone[0], alone[1])
    averaged = first_weights("gossip_averaging")
    assert torch.equal(averaged[0], averaged[1])

    def examples(name: str) -> list[torch.Tensor]:
        return [build_task(s, s.config.make_strategy()).train[0].flatten(1) for s in comparison.plan(Row(name, 0))]

    (union,) = examples(POOLED)
    shards = torch.cat(examples("gossip_averaging"))
    assert {tuple(row.tolist()) for row in union} == {tuple(row.tolist()) for row in shards}


def test_a_comparison_spares_a_strategy_the_options_of_others(run_file: Path, tmp_path: Path) -> None:
    asked = Asked(run_file=run_file, out=tmp_path)
    comparison = Comparison(asked, ["isolated", "codistill_predictions"], [0], lambda title: lambda *_: None)
    assert comparison.plan(Row("isolated", 0))[0].config.strategy.model_extra == {}
    extra = comparison.plan(Row("codistill_predictions", 0))[0].config.strategy.model_extra
    assert extra == {"temperature": 2.0}
    averaged = comparison.plan(Row("gossip_averaging", 0))
    assert [spec.config.task_options()["model"] for spec in averaged] == ["cnn", "cnn"]
    (pooled,) = comparison.plan(Row(POOLED, 0))
    assert pooled.pooled
    assert pooled.config.task_options()["model"] == "cnn"


class FakeRun:
    """Takes note of what it is to run, and says that it trained for 4.2 seconds."""

    asked: ClassVar[list[Sequence[WorkerSpec]]] = []

    def __init__(self, specs: Sequence[WorkerSpec], folder: Path, watch: object, **policies: object) -> None:
        self.asked.append(specs)
        peers = [unknown_peer(spec.name).but(status="finished", wall_s=4.2, warnings=[]) for spec in specs]
        verdicts = [VerdictRecord(met=False, line="NOT MET: pace_ratio")] if specs[0].faults else []
        self.summary = summarise(specs[0].config, peers, 5.0, 0, folder, (), verdicts)

    def run(self) -> int:
        return 20 if self.summary.expectations else 0


def test_under_a_plan_what_gossips_runs_again_for_as_long_as_it_took_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossipdistill.launchers.compare.LocalRun", FakeRun)
    (tmp_path / "bad.toml").write_text('[[fault]]\nkind = "kill"\npeer = "bo"\nat_s = 2\n')
    asked, strategies = Asked(peers="2", steps=5, out=tmp_path), ["isolated", "gossip_averaging", POOLED]
    comparison = Comparison(asked, strategies, [0, 1], lambda title: lambda *_: None, str(tmp_path / "bad.toml"))
    assert comparison.run() == 20
    ran = [(specs[0].folder.parent.name, specs[0].config.seconds) for specs in FakeRun.asked]
    of_a_seed = [
        ("isolated-s{}", None),
        ("gossip-averaging-s{}", None),
        ("gossip-averaging-s{}-faults", 4.2),
        ("pooled-s{}", None),
    ]
    assert ran == [(name.format(seed), seconds) for seed in (0, 1) for name, seconds in of_a_seed]
    assert [specs[0].faults is not None for specs in FakeRun.asked] == [False, False, True, False] * 2
    assert {specs[0].config.steps for specs in FakeRun.asked} == {5}
    told = comparison.summary.runs
    assert [entry.faults for entry in told] == [None, None, "bad", None] * 2
    assert [len(entry.expectations) for entry in told] == [0, 0, 1, 0] * 2


def test_a_plan_needs_something_to_disturb_and_is_read_before_the_first_run(tmp_path: Path) -> None:
    asked = Asked(peers="2", steps=5, out=tmp_path / "runs")

    def begin(strategies: list[str], faults: str) -> None:
        Comparison(asked, strategies, [0], lambda title: lambda *_: None, faults).run()

    with pytest.raises(ConfigError, match="disturbs none of these strategies"):
        begin(["isolated", "all_reduce", POOLED], "bad-day")
    with pytest.raises(ConfigError, match="did you mean bad-day"):
        begin(["isolated", "gossip_averaging"], "bad-dya")
    assert not (tmp_path / "runs").exists()


def test_fingerprints_hold_what_peers_must_share(tmp_path: Path) -> None:
    def prints(strategy: str) -> dict[str, str]:
        spec = plan_local(Asked(peers="2", strategy=strategy, out=tmp_path))[0]
        made = spec.config.make_strategy()
        task = build_task(spec, made)
        return fingerprint_of(spec, made, task, build_model(spec, made, task))

    common = {"run", "strategy", "task", "classes", "transfer"}
    assert set(prints("codistill_predictions")) == common | {"temperature", "coordinated rows"}
    assert set(prints("codistill_groups")) == common | {"model", "groups", "seed of the initial weights"}
    assert set(prints("gossip_averaging")) >= {"model", "initial weights"}


def test_members_of_a_group_begin_alike_and_must_reach_one_another(tmp_path: Path) -> None:
    hashes = []
    for spec in plan_local(Asked(peers="4", strategy="codistill_groups", out=tmp_path)):
        made = spec.config.make_strategy()
        build_schedule(spec, made)
        hashes.append(weights_hash(build_model(spec, made, build_task(spec, made))))
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]
    apart = plan_local(Asked(peers="6", topology="star", strategy="codistill_groups", out=tmp_path))[0]
    with pytest.raises(NeedsError, match="links inside each group"):
        build_schedule(apart, apart.config.make_strategy())


def test_settings_are_read_as_toml_where_they_are_that() -> None:
    read = parse_settings(["a.b=1", "c=mlp", "d=[1, 2]", "e=true", 'f="1"', "g={h = 2}"])
    assert read == {"a.b": 1, "c": "mlp", "d": [1, 2], "e": True, "f": "1", "g.h": 2}
    assert flatten(nest(read)) == read
    with pytest.raises(ConfigError, match="has no keys of its own"):
        nest({"a": 1, "a.b": 2})


def test_an_environment_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match="GOSSIPDISTILL_SET"):
        environment_layers({"GOSSIPDISTILL_SET": "train.lr"})


def test_sections_may_be_named_by_a_single_word() -> None:
    config = resolve([Layer(chosen("a file"), {"task": "quadratic", "strategy": "isolated", "steps": 1})]).config
    assert (config.task.name, config.strategy.name) == ("quadratic", "isolated")


SEEDED = """\
import torch
from torch import nn

from gossipdistill import Task


def model():
    if SEEDS:
        torch.manual_seed(0)
    return nn.Linear(2, 2)


def task(shard, seeds: bool = True):
    global SEEDS
    SEEDS = seeds
    torch.manual_seed(5)  # of the data, which is nobody's business
    x, y = torch.rand(8, 2), torch.arange(8) % 2
    return Task(model, (x, y), (x, y), nn.functional.cross_entropy, transfer=x)
"""


@pytest.mark.parametrize(
    ("strategy", "seeds", "told"),
    [
        ("codistill_predictions", "true", True),
        ("codistill_predictions", "false", False),
        ("gossip_averaging", "true", False),  # all are to begin alike anyway
    ],
)
def test_a_model_that_seeds_itself_is_told_where_peers_are_to_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, seeds: str, told: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "seeded.py").write_text(SEEDED)
    asked = Asked(peers="2", task="seeded:task", strategy=strategy, steps=5, settings=[f"task.seeds={seeds}"])
    spec = plan_local(asked)[1]
    made = spec.config.make_strategy()
    learner, _ = build_learner(spec, made, build_task(spec, made))
    sys.modules.pop("seeded")
    assert any("seeds torch's generator itself" in warning for warning in learner.ledger.warnings) is told


@pytest.mark.parametrize("origin", [Origin(source, which) for source in Source for which in ("", "a b", "run file")])
def test_an_origin_survives_as_text_where_its_source_has_words(origin: Origin) -> None:
    again = Origin.read(str(origin))
    assert str(again) == str(origin)
    assert again == origin or origin.source is Source.CHOSEN
