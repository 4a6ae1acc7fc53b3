"""Whose fault the end of a training is: a lost peer's, the user's, or ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gossipdistill.assembly import blaming
from gossipdistill.assembly.blaming import CollectiveError, explained
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import ConfigError, GossipdistillError, UserCodeError
from gossipdistill.ids import PeerName
from gossipdistill.learning.learner import Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Neighbourhood
from gossipdistill.tasks import Task
from gossipdistill.user_code import users_code

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:32664"
BO = PeerName("bo")


def told(error: Exception, strategy: str = "isolated", step: int = 0, lost: bool = False) -> Exception:
    x = torch.zeros(4, 2)
    task = Task(lambda: nn.Linear(2, 2), (x, x), (x, x), nn.functional.mse_loss)
    model = task.model()
    learner = Learner("ada", 0, ("ada", "bo"), model, torch.optim.SGD(model.parameters()), torch.device("cpu"), 0)
    learner.step = step
    mailbox = Mailbox()
    if lost:
        mailbox.tell(Neighbourhood(expected=2, gone=frozenset([BO]), statuses={BO: "dead: crashed"}), ())
    return explained(error, task, learner, spec_of(strategy), mailbox)


def spec_of(strategy: str) -> WorkerSpec:
    spec = plan_local(Asked(peers="2", strategy=strategy, steps=5))[0]
    return replace(spec, user_folder=Path("/home/me"), folder=Path("/home/me/runs/first-light/ada"))


def from_users_code(error: Exception, what: str = "Task.model") -> UserCodeError:
    with pytest.raises(UserCodeError) as caught, users_code(what):
        raise error
    return caught.value


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blaming, "_LOSS_KNOWN_WITHIN_S", 0.01)
    monkeypatch.setattr(blaming, "_LOOK_EVERY_S", 0.001)


def test_a_collective_that_is_cut_off_is_a_lost_peer_if_membership_says_so() -> None:
    found = told(from_users_code(RuntimeError(GLOO)), "all_reduce", 7, lost=True)
    assert isinstance(found, CollectiveError)
    assert str(found).startswith(
        "all_reduce stopped, as it does when a peer is lost: bo (dead: crashed): RuntimeError: ["
    )
    found = told(from_users_code(RuntimeError(GLOO)), "all_reduce", 7)
    assert isinstance(found, CollectiveError)
    assert "its connection to the other peers failed, and none is known to be lost" in str(found)


@pytest.mark.parametrize("status", ["unheard: nothing heard yet", "suspect: no answer"])
def test_a_collective_that_is_cut_off_names_who_is_not_there_although_nobody_knows_it_to_be_lost(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(
        Mailbox, "neighbourhood", lambda _: Neighbourhood(expected=2, statuses={BO: status}, alive=frozenset())
    )
    found = told(from_users_code(RuntimeError(GLOO)), "all_reduce", 7)
    assert f"stopped, as it does when a peer is lost: bo ({status})" in str(found)


@pytest.mark.parametrize("lost", [False, True])
def test_any_other_error_of_a_collective_is_the_users(lost: bool) -> None:
    text = "Expected to have finished reduction in the prior iteration before starting a new one."
    found = told(from_users_code(RuntimeError(text)), "all_reduce", 7, lost)
    assert isinstance(found, UserCodeError)
    assert str(found).startswith(f"training failed at step 7: RuntimeError: {text} (")
    assert "strategy.find_unused = always" in str(found)
    assert told(from_users_code(ValueError(GLOO)), "all_reduce", 7, lost).exit_code == 11  # type: ignore[attr-defined]


def test_without_a_collective_what_is_said_of_connections_is_the_users() -> None:
    found = told(from_users_code(RuntimeError(GLOO)), lost=True)
    assert isinstance(found, UserCodeError)
    assert found.exit_code == 3
    assert str(found).endswith("; the full report is in runs/first-light/ada/stderr.log")


def test_a_fault_of_ours_stays_one_and_errors_for_users_stay_as_they_are() -> None:
    for error in (ZeroDivisionError(), RuntimeError("ours"), ConfigError("refused"), GossipdistillError("x")):
        assert told(error) is error


def test_a_metric_that_gives_no_number_at_the_end_has_no_cause_and_is_told_all_the_same() -> None:
    metric = UserCodeError("Task.metrics['it']", "gives None, which is no number")
    found = told(metric, step=5)
    assert str(found).startswith(f"training failed at step 5: gives None, which is no number ({__file__}:")
    assert found.exit_code == 11  # type: ignore[attr-defined]
