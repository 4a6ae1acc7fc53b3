"""3. CPU threads: the key, the environment, and a busy machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossipdistill.config.plan import Asked, plan_local, plan_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.threads import Cpus, choose
from gossipdistill.launchers.compare import POOLED, Row
from gossipdistill.launchers.preflight import check, title_of
from tests.newcomers.common import comparison


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
    assert origin in str(threads.origin)


def test_who_has_few_threads_or_a_wrong_variable_is_told() -> None:
    assert choose(1, 1, Cpus(2), {}).notice == ""
    assert "1 thread for each peer (train.threads = N" in choose(1, 1, Cpus(2, busy=1.0), {}).notice
    wrong = choose(1, 1, Cpus(4), {"OMP_NUM_THREADS": "all"})
    assert (wrong.count, wrong.notice) == (4, "OMP_NUM_THREADS = 'all' is no number of threads and is not used")


def test_the_key_stands_above_all_and_what_is_used_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipdistill.config.plan.Cpus.read", lambda: Cpus(8, busy=1.0))
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
    assert [compared.plan(Row(name, 0))[0].threads for name in compared.strategies] == [2, 8]
