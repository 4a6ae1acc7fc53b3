"""A worker goes on with the settings of today, and one line says which they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.assembly.building import refuse_unkept
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.layers import Layer, Resolved
from gossipdistill.config.origins import COMMAND_LINE
from gossipdistill.config.resolving import resolve
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.durable import CheckpointFolder
from gossipdistill.errors import ConfigError, NeedsError
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.learner import Draws
from gossipdistill.mailbox import Mailbox
from gossipdistill.runtime.resuming import Resumption, resume, settings_of
from gossipdistill.tasks import Task
from gossipdistill.training.worker import Worker

X, Y = torch.randn(16, 3, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
TASK = Task(model=lambda: nn.Linear(3, 2), train=(X, Y), validation=(X, Y), loss=nn.functional.cross_entropy)


def settings(**values: object) -> Resolved:
    named = {key.replace("__", "."): value for key, value in values.items()}
    given = {"steps": 40, "train.lr": 0.1, "train.lr_schedule": "constant", "strategy.name": "isolated"} | named
    return resolve([Layer(COMMAND_LINE, given)])


def worker(resolved: Resolved) -> Worker:
    """As a worker process puts one together."""
    spec = replace(WorkerSpec.in_process("ada", ("ada",), {}), resolved=resolved)
    return build_worker(spec, Mailbox(), Given(task=TASK, draws=Draws(16, 4, 0)))


def train(worker: Worker, until: int, of: int = 40) -> list[float]:
    """The learning rate of each step."""
    rates = []
    while worker.learner.step < until:
        worker.step(0.0, worker.learner.step / of)
        rates.append(float(worker.learner.optimizer.param_groups[0]["lr"]))
    return rates


def saved(folder: Path, resolved: Resolved, first_format: bool = False) -> Worker:
    """A worker that has trained half of its steps and left a checkpoint."""
    made = worker(resolved)
    train(made, 20)
    checkpoint = made.checkpoint()
    parts, content = checkpoint.encode()
    content["settings"] = settings_of(resolved.config)
    if first_format:
        parts, content = as_release_0_1_did(made, checkpoint, content)
    CheckpointFolder(folder, {"peer": "ada"}, boot=1).save(parts, content)
    return made


def as_release_0_1_did(made: Worker, checkpoint: Checkpoint, content: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What that release wrote: no constructor values, and no settings."""
    state = made.learner.optimizer.state_dict()
    entries = {f"{index}.{key}": value for index, own in state["state"].items() for key, value in own.items()}
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith("optimizer.")}
    kept |= {f"optimizer.{name}": value for name, value in entries.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in entries.items() if not isinstance(value, Tensor)}
    older = {key: content[key] for key in ("progress", "strategy", "memory", "generators")}
    older["optimizer"] = {"kind": content["optimizer"]["kind"], "groups": state["param_groups"], "plain": plain}
    return Checkpoint(kept, {}, {}, generators=checkpoint.generators).encode()[0], older


def went_on(folder: Path, resolved: Resolved) -> tuple[Worker, Resumption]:
    made = worker(resolved)
    found = resume(CheckpointFolder(folder, {"peer": "ada"}), made.learner, resolved)
    assert found.checkpoint is not None
    made.resume(found.checkpoint)
    return made, found


@pytest.mark.parametrize("first_format", [False, True])
def test_new_settings_of_the_optimizer_are_used_and_said(tmp_path: Path, first_format: bool) -> None:
    saved(tmp_path, settings(), first_format)
    resolved = settings(train__lr=0.001, train__momentum=0.5, train__weight_decay=0.01)
    made, found = went_on(tmp_path, resolved)
    assert found.changed == (
        "train.lr: 0.1 in the checkpoint, 0.001 now: 0.001 is used; "
        "train.momentum: 0.9 in the checkpoint, 0.5 now: 0.5 is used; "
        "train.weight_decay: 0.0 in the checkpoint, 0.01 now: 0.01 is used"
    )
    assert set(train(made, 40)) == {0.001}
    group = made.learner.optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.5, 0.01)


@pytest.mark.parametrize("first_format", [False, True])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "drops"])
def test_the_same_settings_go_on_bit_for_bit_and_nothing_is_said(
    tmp_path: Path, schedule: str, first_format: bool
) -> None:
    whole = saved(tmp_path, settings(train__lr_schedule=schedule), first_format)
    made, found = went_on(tmp_path, settings(train__lr_schedule=schedule))
    assert found.changed == ""
    assert train(made, 40) == train(whole, 40)
    for name, tensor in whole.learner.model.state_dict().items():
        assert torch.equal(tensor, made.learner.model.state_dict()[name]), name


@pytest.mark.parametrize("first_format", [False, True])
@pytest.mark.parametrize("schedule", ["cosine", "drops"])
def test_a_schedule_follows_the_new_rate(tmp_path: Path, schedule: str, first_format: bool) -> None:
    saved(tmp_path, settings(train__lr_schedule=schedule), first_format)
    made, found = went_on(tmp_path, settings(train__lr_schedule=schedule, train__lr=0.01))
    assert found.changed == "train.lr: 0.1 in the checkpoint, 0.01 now: 0.01 is used"
    straight = worker(settings(train__lr_schedule=schedule, train__lr=0.01))
    assert train(made, 40) == train(straight, 40)[20:]


@pytest.mark.parametrize("first_format", [False, True])
def test_a_constant_rate_after_a_schedule_is_the_whole_one(tmp_path: Path, first_format: bool) -> None:
    saved(tmp_path, settings(train__lr_schedule="cosine"), first_format)
    made, found = went_on(tmp_path, settings())
    said = "train.lr_schedule: cosine in the checkpoint, constant now: constant is used"
    assert found.changed == ("" if first_format else said)
    assert set(train(made, 40)) == {0.1}
    saved(tmp_path / "b", settings(), first_format)
    made, found = went_on(tmp_path / "b", settings(train__lr_schedule="cosine"))
    straight = worker(settings(train__lr_schedule="cosine"))
    assert train(made, 40) == train(straight, 40)[20:]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train__clip_norm", 0.5, "train.clip_norm: not set in the checkpoint, 0.5 now: 0.5 is used"),
        ("train__batch_size", 8, "train.batch_size: 32 in the checkpoint, 8 now: 8 is used"),
        ("train__accumulate", 2, "train.accumulate: 1 in the checkpoint, 2 now: 2 is used"),
        (
            "seed",
            3,
            "seed: 0 in the checkpoint, 3 now: 3 is used for shards and order; the weights and the generators are the "
            "checkpoint's",
        ),
        ("task__shards", "same", "task.shards: disjoint in the checkpoint, same now: same is used"),
        (
            "strategy__name",
            "self_distillation",
            "strategy.name: isolated in the checkpoint, self_distillation now: self_distillation is used; what "
            "isolated had kept is not",
        ),
        ("train__checkpoint_every_s", 3.0, ""),
        ("linger_s", 0.0, ""),
    ],
)
def test_every_other_setting_that_decides_what_is_learned_is_said(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    saved(tmp_path, settings())
    resolved = settings(**{key: value})
    learner = worker(settings()).learner
    changed = resume(CheckpointFolder(tmp_path, {"peer": "ada"}), learner, resolved).changed
    assert said in changed
    assert bool(changed) == bool(said)


@pytest.mark.parametrize("first_format", [False, True])
def test_options_and_betas_of_an_optimizer_are_said_under_their_keys(tmp_path: Path, first_format: bool) -> None:
    saved(tmp_path, settings(train__optimizer="adam", train__optimizer_options__eps=1e-8), first_format)
    resolved = settings(train__optimizer="adam", train__momentum=0.5, train__optimizer_options__eps=1e-6)
    made, found = went_on(tmp_path, resolved)
    assert "train.momentum (betas): (0.9, 0.999) in the checkpoint, (0.5, 0.999) now: " in found.changed
    assert "train.optimizer_options.eps: 1e-08 in the checkpoint, 1e-06 now: 1e-06 is used" in found.changed
    assert found.changed.count("is used") == 2
    group = made.learner.optimizer.param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.5, 0.999), 1e-6)


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, settings())
    resolved = settings(train__optimizer="adam")
    folder = CheckpointFolder(tmp_path, {"peer": "ada"})
    with pytest.raises(ConfigError, match="it is of another optimizer: SGD, not Adam"):
        resume(folder, worker(resolved).learner, resolved)


def test_without_a_checkpoint_nothing_is_resumed(tmp_path: Path) -> None:
    found = resume(CheckpointFolder(tmp_path / "none", {}), worker(settings()).learner, settings())
    assert found == Resumption()


class Graph(nn.Module):
    """Has an entry that no checkpoint can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)

    def get_extra_state(self) -> object:
        return {"handle": self}

    def set_extra_state(self, state: object) -> None:
        """Nothing to do."""


def test_what_a_checkpoint_cannot_hold_is_refused_before_training() -> None:
    model = Graph()
    with pytest.raises(
        NeedsError, match=r"model\._extra_state\.handle is of type Graph, which a checkpoint cannot hold"
    ):
        refuse_unkept(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    refuse_unkept(optimizer=optimizer)
    optimizer.param_groups[0]["mine"] = [model]
    with pytest.raises(NeedsError, match=r"optimizer\.param_groups\.0\.mine\.0 is of type Graph, which"):
        refuse_unkept(optimizer=optimizer)
    assert NeedsError.exit_code == 6
