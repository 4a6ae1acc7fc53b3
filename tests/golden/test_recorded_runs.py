"""Run folders that an earlier release has written: they can be looked at, and their checkpoints gone on from.

`run-0.1` was written by release 0.1.0, and is never written again:

    gossipdistill run --peers 2 --task logistic --strategy decentlam --steps 60 --set name=decentlam-sgd
        --set train.checkpoint_every_s=0 --set train.checkpoints_kept=1 --set train.lr=0.01 --set train.step_time_s=0.01
    gossipdistill run --peers 1 --task logistic --strategy isolated --steps 30 --set name=isolated-adamw
        --set train.checkpoint_every_s=0 --set train.checkpoints_kept=1 --set train.optimizer=adamw --set train.lr=0.01
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossipdistill.assembly.worker import Parts
from gossipdistill.cli import main
from gossipdistill.config.layers import Resolved
from gossipdistill.config.schema import RunConfig
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.durable import CheckpointFolder, Saved
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.mailbox import Mailbox
from gossipdistill.presence import Address
from gossipdistill.training.worker import Worker

RUNS = Path(__file__).parent / "run-0.1"
PEERS = {"decentlam-sgd": ("ada", "bo"), "isolated-adamw": ("ada",)}
STEPS_MORE = 5
LOSS_AFTER = {
    ("decentlam-sgd", "ada"): 0.42684081,
    ("decentlam-sgd", "bo"): 0.42464390,
    ("isolated-adamw", "ada"): 0.53126621,
}
"""Validation loss [nats] when release 0.1.0 itself goes on for `STEPS_MORE` steps, of a run of twice as many."""


def config_of(folder: Path) -> RunConfig:
    """From `config.json`: the keys that were used, each with its value and where it came from."""
    keys: dict[str, Any] = {}
    for name, entry in json.loads((folder / "config.json").read_text()).items():
        section, _, key = name.rpartition(".")
        (keys.setdefault(section, {}) if section else keys)[key] = entry["value"]
    keys["train"]["clip_norm"] = "off"  # as that release had it
    return RunConfig.model_validate(keys | {"steps": 2 * keys["steps"]})


def resumed(run: str, peer: str) -> tuple[Worker, Checkpoint]:
    """The worker of this peer as its process builds it, with its newest checkpoint restored."""
    names = PEERS[run]
    config = config_of(RUNS / run / peer)
    addresses = tuple(Address("127.0.0.1", 7400 + 2 * place) for place in range(len(names)))
    place = names.index(peer)
    spec = WorkerSpec(
        peer,
        place,
        len(names),
        Resolved(config, {}),
        RUNS / run / peer,
        addresses[place],
        addresses[place],
        names,
        addresses,
        device="cpu",
    )
    parts = Parts.of(spec)
    learner = parts.learner
    folder = CheckpointFolder(spec.folder / "checkpoints", {"peer": peer, "task": config.task.name})

    def use(saved: Saved) -> Checkpoint:
        checkpoint = Checkpoint.decode(saved.tensors, saved.content)
        checkpoint.restore(learner.model, learner.optimizer)
        return checkpoint

    checkpoint, refusals = folder.newest(use)
    assert refusals == []
    assert checkpoint is not None
    worker = parts.worker(Mailbox())
    worker.resume(checkpoint)
    return worker, checkpoint


@pytest.fixture
def generators() -> Iterator[None]:
    """A resumed training sets the global random generators; other tests are to find them as they were."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    yield
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])


@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize(("run", "peer"), LOSS_AFTER)
def test_training_goes_on_from_a_checkpoint_as_the_release_that_wrote_it_would(run: str, peer: str) -> None:
    result = json.loads((RUNS / run / peer / "result.json").read_text())
    worker, checkpoint = resumed(run, peer)
    assert worker.learner.step == checkpoint.progress["step"] == result["steps"]
    assert worker.evaluate()[1]["loss"] == pytest.approx(result["val_loss"], abs=1e-6)
    for number in range(STEPS_MORE):
        worker.step(float(number), progress=0.5)
    assert worker.learner.step == result["steps"] + STEPS_MORE
    assert worker.evaluate()[1]["loss"] == pytest.approx(LOSS_AFTER[run, peer], abs=1e-5)


@pytest.mark.usefixtures("generators")
def test_what_the_strategy_kept_and_the_generators_come_back() -> None:
    _, checkpoint = resumed("decentlam-sgd", "ada")
    assert set(checkpoint.recalled("decentlam")) == {"rate", "velocity"}
    assert torch.equal(torch.get_rng_state(), checkpoint.tensors["rng.cpu"])


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> str:
    """What the command prints, which ends well."""
    monkeypatch.setattr(sys, "argv", ["gossipdistill", *args, "--out", str(RUNS)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("run", PEERS)
def test_the_table_is_shown(run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    summary = json.loads((RUNS / run / "summary.json").read_text())
    table = said(capsys, monkeypatch, "show", run)
    for peer in summary["peers"]:
        assert [peer["name"], peer["status"], str(peer["steps"])] in [line.split()[:3] for line in table.splitlines()]
        assert f"{peer['val_loss']:.3f}" in table
    assert json.loads(said(capsys, monkeypatch, "show", run, "--format", "json"))["peers"] == summary["peers"]


def test_the_story_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    story = said(capsys, monkeypatch, "story", "decentlam-sgd", "bo")
    assert "training at step 0" in story
    assert "2 of 2 peers here" in story
