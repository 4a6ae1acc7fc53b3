"""The fixture `gossip_run`: a real run from within a test, and a failure that says what was not met."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gossipdistill.testing
from gossipdistill.errors import ConfigError
from gossipdistill.observe.story import tell
from gossipdistill.testing import RunResult


def test_a_run_under_a_plan_is_checked(gossip_run: Callable[..., RunResult], tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        '[[fault]]\nkind = "kill"\npeer = "bo"\nat_s = 0.3\n'
        '[[expect]]\nmetric = "val_accuracy"\npeers = ["ada", "bo"]\nat_least = 0.01\n'
    )
    result = gossip_run(faults=plan, peers=2, seconds=1, settings={"train.step_time_s": 0.01})
    assert result.exit_code == 20
    assert result.peers["ada"]["status"] == "finished"
    assert result.folder.parent == tmp_path / "runs"
    assert "fault: 1 begins: bo is killed" in result.said
    with pytest.raises(AssertionError) as caught:
        result.check()
    assert str(caught.value).splitlines()[1:] == [
        "NOT MET: val_accuracy of ada and bo is not measured (bo did not finish, or the task has no accuracy); "
        "expected: at least 0.01",
        "bo lost: killed by SIGKILL, as the fault plan asked",
    ]


def test_check_returns_a_run_that_went_well() -> None:
    result = RunResult({"exit_code": 0, "peers": [], "expectations": []}, Path("runs/x"), ())
    assert result.check() is result


def test_a_run_that_diverged_is_no_success(gossip_run: Callable[..., RunResult]) -> None:
    unbounded = {"train.lr": 1e9, "train.clip_norm": "off", "train.step_time_s": 0}
    result = gossip_run(peers=2, steps=30, settings=unbounded)
    assert result.exit_code == 10
    assert {peer["status"] for peer in result.peers.values()} == {"diverged"}
    assert result.summary["val_accuracy"] is None
    with pytest.raises(AssertionError, match=r"ada diverged: diverged: parameter .* is not finite; try train"):
        result.check()
    assert any("has ended, with nothing that can be used: parameter" in line for line in tell(result.folder, "bo"))


def test_a_peer_that_exchanged_nothing_is_named_with_the_reason() -> None:
    silent = {"name": "ada", "status": "finished", "warnings": ["nothing was exchanged: why"], "troubles": ["it was"]}
    result = RunResult({"exit_code": 10, "peers": [silent], "expectations": []}, Path("runs/x"), ())
    with pytest.raises(AssertionError, match="ada finished: nothing was exchanged: why"):
        result.check()


def test_a_mistake_is_the_message_that_a_user_would_read(gossip_run: Callable[..., RunResult]) -> None:
    with pytest.raises(ConfigError, match="did you mean bad-day"):
        gossip_run(faults="bad-dya", peers=4)


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    program = "import sys, gossipdistill.testing.plugin; print(sorted({'torch', 'zmq', 'numpy'} & sys.modules.keys()))"
    env = {"PYTHONPATH": ":".join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_only_what_is_promised_is_exported() -> None:
    assert callable(gossipdistill.testing.run)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gossipdistill.testing.nothing  # type: ignore[attr-defined]
