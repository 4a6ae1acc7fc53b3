"""The yardstick of the overhead computes what the real strategy computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kit.local_worker import build
from benchmarks.kit.plans import plan
from benchmarks.overhead import ROWS


@pytest.mark.parametrize("key", ["padded", "unlike-padded"])
def test_the_yardstick_learns_from_three_teachers_and_opens_no_socket(key: str, tmp_path: Path) -> None:
    specs = plan(tmp_path, "codistill_predictions", "complete", ROWS[key].settings, models=ROWS[key].models)
    worker = build(specs[1])
    for step in range(41):
        worker.step(now=0.02 * step)
    links = worker.learner.ledger.links
    assert sorted(links) == ["local-0", "local-1", "local-2"]
    # One exchange in ten steps with each, as with real neighbours; the first may come at once.
    assert all(4 <= link.exchanges <= 5 for link in links.values())
    assert worker.gossip.endpoint.cadence.exchanges == 4


def test_workers_of_one_plan_have_one_torch_thread_and_the_last_is_slow(tmp_path: Path) -> None:
    specs = plan(tmp_path, "isolated", "complete", (), slowdown_of_last=10.0, models=("mlp", "cnn", "mlp", "cnn"))
    assert [spec.slowdown for spec in specs] == [1.0, 1.0, 1.0, 10.0]
    assert {spec.threads for spec in specs} == {1}
    assert [spec.config.task_options()["model"] for spec in specs] == ["mlp", "cnn", "mlp", "cnn"]
    assert len({spec.config.name for spec in specs}) == 1
