"""5. and 7. Who trains on how many examples, and where that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossipdistill.assembly.building import build_task
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.errors import ConfigError
from gossipdistill.launchers.preflight import check, title_of
from gossipdistill.observe.dealt import data_words
from gossipdistill.observe.records import ExamplesRecord
from tests.newcomers.common import TASK


def examples_of(asked: Asked) -> ExamplesRecord:
    return check(plan_local(asked)).examples


def test_more_peers_than_the_ready_made_run_was_written_for_have_smaller_shards_and_are_told(tmp_path: Path) -> None:
    specs = plan_local(Asked(topology="torus", peers="9", out=tmp_path))
    findings = check(specs)
    assert findings.examples.plain() == {"used": 88, "pool": 800, "asked": 100, "transfer": 600}
    assert "88 of 800 labelled examples each, mostly of 3 classes (100 were asked for" in title_of(specs, findings)
    (tmp_path / "run.toml").write_text('peers = "4"\nsteps = 5\n[task]\nname = "digits"\nexamples_per_peer = 150\n')
    assert examples_of(Asked(tmp_path / "run.toml", peers="16", out=tmp_path)).used == 50
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
    assert findings.examples.plain() == {"used": each, "pool": 10_000, "asked": None, "transfer": 500}
    assert f"; {each:,} of 10,000 labelled examples each; 500 unlabelled ones shared;" in title_of(specs, findings)
    assert build_task(specs[0], specs[0].config.make_strategy()).examples() == findings.examples.plain()
    fewer = plan_local(Asked(task="mine_all:task", settings=["task.examples_per_peer=70"], out=tmp_path))
    assert "; 70 of 10,000 labelled examples each;" in title_of(fewer, check(fewer))
    own = plan_local(Asked(task="mine_all:task", settings=["task.dealt=false"], out=tmp_path))
    assert "; 50 labelled examples each;" in title_of(own, check(own))


def test_the_ready_made_run_says_nothing_about_the_data_of_another_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_line.py").write_text(TASK)
    line = {"task": "mine_line:heights", "strategy": "gossip_averaging", "out": tmp_path}
    assert examples_of(Asked(**line)).used == 225  # and is not refused because its labels cannot be skewed
    monkeypatch.setenv("GOSSIPDISTILL_SET", "task=mine_line:heights strategy=gossip_averaging")
    assert examples_of(Asked(out=tmp_path)).used == 225
    monkeypatch.delenv("GOSSIPDISTILL_SET")
    assert examples_of(Asked(task="digits", out=tmp_path)).used == 100


def test_results_say_how_much_data_was_used() -> None:
    one = ExamplesRecord(used=88, pool=800, asked=88, transfer=0)
    assert data_words([one, None, one]) == "88 of 800 labelled examples each"
    assert data_words([one, one.but(used=90)], "same") == "88 to 90 of 800 labelled examples each, the same for all"
    alone = ExamplesRecord(used=1, pool=None, asked=None, transfer=7)
    assert data_words([alone]) == "1 labelled example each; 7 unlabelled ones shared"
    assert data_words([None]) == ""
