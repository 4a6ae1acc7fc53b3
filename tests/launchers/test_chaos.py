"""The launcher's and the worker's side of a fault plan, without processes."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gossipdistill.errors import ConfigError, NeedsError
from gossipdistill.events import Event
from gossipdistill.faults import FaultPlan
from gossipdistill.launchers import chaos
from gossipdistill.launchers.chaos import Chaos
from gossipdistill.launchers.injection import SignalTo, StartAgain
from gossipdistill.launchers.processes import Child, Processes
from gossipdistill.launchers.restarts import AtMost, NoRestarts
from gossipdistill.observe.report import unknown_peer
from gossipdistill.observe.told import Progress, Restarting
from gossipdistill.runtime.injected_faults import InjectedFaults
from gossipdistill.runtime.release import Release
from gossipdistill.strategies import strategy_of

NAMES = ("ada", "bo")


def planned(*faults: dict[str, Any]) -> FaultPlan:
    return FaultPlan.model_validate({"fault": list(faults)})


@dataclass
class Stage:
    """A launcher's view of two processes, and what is done to them."""

    plan: FaultPlan
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chaos = Chaos(self.plan, NAMES)
        self.children = {name: Child(cast(Any, SimpleNamespace(name=name)), cast(Any, None)) for name in NAMES}

    def turn(self, now_s: float) -> list[tuple[str, str]]:
        done = []
        for do in self.chaos.due(now_s, self.children):
            match do:
                case SignalTo(name, number):
                    done.append((name, signal.Signals(number).name))
                case StartAgain(name):
                    done.append((name, "start"))
                    self.children[name].exit_code = None
                case Event():
                    self.said.append(f"{do.at_s:g} {do.line()}")
        return done


def stage_of(*faults: dict[str, Any]) -> Stage:
    return Stage(planned(*faults))


def test_a_killed_peer_is_started_again_once_it_has_ended() -> None:
    stage = stage_of({"kind": "kill", "peer": "bo", "at_s": 5, "restart_after_s": 3})
    assert stage.chaos.next_s() == 5
    assert stage.turn(4.9) == []
    assert stage.turn(5.0) == [("bo", "SIGKILL")]
    assert stage.chaos.stopped("bo")
    assert stage.chaos.awaits_restart()
    assert stage.turn(8.0) == []  # it has not ended yet
    assert stage.chaos.awaits_restart()
    stage.children["bo"].exit_code = -9
    assert stage.turn(8.1) == [("bo", "start")]
    assert not stage.chaos.stopped("bo")
    assert not stage.chaos.awaits_restart()
    assert stage.said == [
        "5 fault: 1 begins: bo is killed, and started again 3 s later",
        "8 fault: 1 is over: bo is killed, and started again 3 s later",
    ]
    (entry,) = stage.chaos.faults()
    assert (entry.began_s, entry.ended_s, entry.fired) == (5.0, 8.0, 1)


def test_a_peer_is_asked_to_end_and_one_that_finished_is_left_alone() -> None:
    stage = stage_of({"kind": "restart", "peer": ["ada", "bo"], "at_s": 5})
    stage.children["ada"].result = unknown_peer("ada").but(status="finished")
    assert stage.turn(5.0) == [("bo", "SIGTERM")]
    stage.children["ada"].exit_code = stage.children["bo"].exit_code = 0
    stage.children["bo"].result = unknown_peer("bo").but(status="left")
    assert stage.turn(5.5) == [("bo", "start")]


def test_a_pause_ends_with_its_window_or_when_nobody_else_is_left() -> None:
    pause = {"kind": "pause", "peer": "bo", "from_s": 1, "to_s": 4}
    stage = stage_of(pause)
    assert stage.turn(1) == [("bo", "SIGSTOP")]
    assert stage.turn(3) == []
    assert stage.turn(4) == [("bo", "SIGCONT")]
    early = stage_of(pause)
    assert early.turn(1) == [("bo", "SIGSTOP")]
    early.children["ada"].exit_code = 0
    assert early.turn(2) == [("bo", "SIGCONT")]
    assert early.turn(2.1) == []


def test_a_launcher_of_one_peer_leaves_the_others_to_theirs() -> None:
    stage = stage_of(
        {"kind": "pause", "peer": "bo", "from_s": 1, "to_s": 4},
        {"kind": "kill", "peer": "ada", "at_s": 5, "restart_after_s": 50},
    )
    stage.chaos = Chaos(stage.plan, NAMES, here=["bo"])
    del stage.children["ada"]
    assert stage.turn(1) == [("bo", "SIGSTOP")]
    assert stage.turn(2) == []  # whether others still train is not known here
    assert stage.turn(4) == [("bo", "SIGCONT")]
    assert stage.turn(5) == []
    assert not stage.chaos.awaits_restart()
    assert [entry.fired for entry in stage.chaos.faults()] == [1, 0]


def test_a_plan_needs_names() -> None:
    spec: Any = SimpleNamespace(names=())
    with pytest.raises(ConfigError, match="names peers, so it needs a roster"):
        chaos.afflict([spec], "bad-day")


def test_a_signal_to_a_process_that_is_gone_already_is_no_error() -> None:
    ended = subprocess.Popen(["true"], start_new_session=True)
    ended.wait()
    processes = Processes()
    processes.children["bo"] = Child(cast(Any, SimpleNamespace(name="bo")), ended)
    for number in (signal.SIGKILL, signal.SIGTERM):
        processes.signal("bo", number)


def test_a_lost_peer_is_started_again_so_many_times_and_never_by_a_collective() -> None:
    child = stage_of().children["bo"]
    assert NoRestarts().next_of(child) is None
    assert AtMost(1).next_of(child) == Restarting(1, 1)
    child.restarts = 1
    assert AtMost(1).next_of(child) is None
    collective = strategy_of("all_reduce")
    NoRestarts().check(collective)
    AtMost(0).check(collective)
    with pytest.raises(NeedsError, match="leave out --max-restarts"):
        AtMost(1).check(collective)


def test_bent_messages_are_counted_over_restarts() -> None:
    stage = stage_of(
        {"kind": "drop", "peer": "bo", "probability": 0.5},
        {"kind": "slow", "peer": "bo", "from_s": 1, "to_s": 2, "factor": 3},
        {"kind": "clock_jump", "peer": "bo", "at_s": 1, "seconds": 3},
        {"kind": "drop", "peer": "bo", "probability": 0.5, "from_s": 99},
    )
    child = stage.children["bo"]
    for restarts, counts in ((0, {"0": 3}), (0, {"0": 5}), (1, {"0": 2})):
        child.restarts = restarts
        stage.chaos.heard(child, Progress(step=1, faults=counts), 1.0)
    stage.turn(2.0)
    assert [entry.fired for entry in stage.chaos.faults()] == [7, 1, 1, 0]
    assert [entry.began_s for entry in stage.chaos.faults()] == [2.0, 2.0, 2.0, None]
    assert "2 fault: 3 begins: the clock of bo jumps 3 s forwards" in stage.said
    assert not any("3 is over" in line for line in stage.said)


def injected(*faults: dict[str, Any], me: str = "bo") -> tuple[InjectedFaults, list[float]]:
    """A worker under these faults, and its real clock, which the test moves; the run began at 100."""
    real = [100.0]
    return InjectedFaults(planned(*faults), NAMES, me, lambda: 100.0, lambda: real[0]), real


def test_a_worker_is_slower_while_the_plan_says_so() -> None:
    one, real = injected({"kind": "slow", "peer": "bo", "from_s": 2, "to_s": 4, "factor": 3})
    paces = []
    for real[0] in (100.0, 101.9, 102.0, 103.9, 104.0):
        paces.append(one.slowdown())
    assert paces == [1.0, 1.0, 3.0, 3.0, 1.0]
    assert [event.reason for event in one.news()] == ["each step takes 3 times as long", "at my own pace again"]
    assert one.news() == []


def test_a_clock_jumps_there_and_back() -> None:
    one, real = injected(
        {"kind": "clock_jump", "peer": "bo", "at_s": 1, "seconds": 60},
        {"kind": "clock_jump", "peer": "*", "at_s": 2, "seconds": -70},
    )
    readings = []
    for real[0] in (100.5, 101.0, 102.0):
        readings.append(one.clock())
    assert readings == [100.5, 161.0, 92.0]
    assert [event.reason for event in one.news()] == ["my clock jumps by 60 s", "my clock jumps by -70 s"]
    assert one.elapsed_s() == 2.0


def test_who_is_not_meant_or_not_released_is_not_afflicted() -> None:
    one, real = injected({"kind": "slow", "peer": "bo", "factor": 3}, me="ada")
    assert (one.slowdown(), one.clock(), one.fired(), one.news()) == (1.0, real[0], {}, [])
    waiting = InjectedFaults(
        planned({"kind": "slow", "peer": "bo", "factor": 3}), NAMES, "bo", lambda: None, lambda: 5.0
    )
    assert (waiting.elapsed_s(), waiting.slowdown(), waiting.news()) == (-1.0, 1.0, [])
    assert InjectedFaults(None, NAMES, "bo", lambda: 0.0, lambda: 5.0).slowdown() == 1.0


def test_go_says_how_long_the_run_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipdistill.runtime.release.time.monotonic", lambda: 50.0)
    release = Release()
    release.heard("wait")
    assert (release.is_set(), release.began_s) == (False, None)
    release.heard("go 8.25")
    assert (release.is_set(), release.began_s) == (True, 41.75)
    release.heard("go")
    assert release.began_s == 50.0


def test_a_run_with_returning_peers_saves_often_unless_told_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    from gossipdistill.config.plan import Asked, plan_local

    def every_s(plan: str | None, *settings: str) -> float:
        specs = chaos.afflict(plan_local(Asked(peers="4", seconds=20, settings=settings)), plan)
        return specs[0].config.train.checkpoint_every_s

    default = every_s(None)
    assert (every_s("straggler"), every_s("bad-day")) == (default, chaos.CHECKPOINT_EVERY_S)
    assert every_s("bad-day", "train.checkpoint_every_s=7") == 7
    with pytest.raises(ConfigError, match="give more --seconds"):
        chaos.afflict(plan_local(Asked(peers="4", seconds=5)), "bad-day")
