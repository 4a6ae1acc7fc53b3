"""No part of the data goes to two peers in silence: run, compare, worker and simulate say the same of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gossipdistill.config.plan import Asked, plan_local, plan_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import ConfigError
from gossipdistill.events import Event, EventKind
from gossipdistill.launchers.compare import Comparison
from gossipdistill.runtime.welcome import Welcome
from gossipdistill.simulation.run import plan_simulation

Plan = Callable[[Asked], list[WorkerSpec]]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("SET", "PEERS", "LISTEN"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)


def roster(folder: Path, **shards: str) -> str:
    """The file of a roster of these peers, each with its own shard or, for "", the one of its place."""
    entries = [
        f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:{23_400 + 2 * place}"\n'
        + (f'shard = "{shard}"\n' if shard else "")
        for place, (name, shard) in enumerate(shards.items())
    ]
    (folder / "roster.toml").write_text("\n".join(entries))
    return str(folder / "roster.toml")


def of_ada(asked: Asked, shard: str | None = None) -> list[WorkerSpec]:
    return [plan_worker(asked, "ada", "127.0.0.1:0", "127.0.0.1:23400", shard, 1, 0.0, False)]


def compared(asked: Asked) -> list[WorkerSpec]:
    Comparison(asked, ["isolated"], [0], lambda title: lambda name, record: None).run()
    raise AssertionError("it was run")


PLANS: dict[str, Plan] = {"run": plan_local, "simulate": plan_simulation, "worker": of_ada}


@pytest.mark.parametrize("command", [*PLANS, "compare"])
@pytest.mark.parametrize("shards", [{"ada": "1/2", "bo": "1/2"}, {"ada": "2/2", "bo": ""}])
def test_newcomer_10_one_shard_for_two_peers_is_refused_by_every_command(
    command: str, shards: dict[str, str], tmp_path: Path
) -> None:
    asked = Asked(peers=roster(tmp_path, **shards), out=tmp_path / "runs")
    with pytest.raises(ConfigError) as caught:
        {**PLANS, "compare": compared}[command](asked)
    assert f"shard = '{shards['ada']}': ada and bo have the same shard" in str(caught.value)
    assert 'task.shards = "same"' in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", PLANS)
def test_newcomer_10_one_shard_for_two_peers_is_fine_where_all_have_the_same_data(command: str, tmp_path: Path) -> None:
    asked = Asked(peers=roster(tmp_path, ada="1/2", bo="1/2"), settings=("task.shards=same",), out=tmp_path)
    assert PLANS[command](asked)[0].shard == (0, 2)


@pytest.mark.parametrize("command", PLANS)
def test_shards_of_their_own_are_dealt_as_written(command: str, tmp_path: Path) -> None:
    asked = Asked(peers=roster(tmp_path, ada="3/8", bo="1/8", cy=""), out=tmp_path)
    wanted = {"ada": (2, 8), "bo": (0, 8), "cy": (2, 3)}
    assert all(spec.shard == wanted[spec.name] for spec in PLANS[command](asked))


def test_newcomer_10_a_shard_on_the_command_line_of_a_worker_counts_as_well(tmp_path: Path) -> None:
    asked = Asked(peers=roster(tmp_path, ada="", bo=""), out=tmp_path)
    with pytest.raises(ConfigError, match="ada and bo have the same shard"):
        of_ada(asked, "2/2")
    assert of_ada(asked, "1/2")[0].shard == (0, 2)


def test_newcomer_10_without_a_roster_the_refusal_speaks_of_shards() -> None:
    welcome = Welcome("bo", boot=1)
    for by, reason in (("ada", "place 1/2 is ada's"), ("cy", "place 3/2 does not exist")):
        welcome.hear(Event(EventKind.REFUSED_BY, 0.0, by, reason, {"i_am_newer": 1}), 0.0)
    taken, missing = (str(welcome.refusals[by]) for by in ("ada", "cy"))
    assert taken == "refused by ada: shard 1/2 is ada's already; give this peer another: --shard K/2"
    assert "there are 2 shards" in missing
