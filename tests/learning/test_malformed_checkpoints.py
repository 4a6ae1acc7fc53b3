"""A checkpoint whose files are whole and whose checksums are right may hold anything: the one before it counts then."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from gossipdistill.config.layers import file_layer
from gossipdistill.config.resolving import resolve
from gossipdistill.durable import CheckpointFolder, Number, Saved
from gossipdistill.errors import ConfigError
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.learner import Learner
from gossipdistill.runtime.resuming import resume

ADA = {"peer": "ada", "task": "digits"}
MISSING = object()


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def two(folder: Path) -> CheckpointFolder:
    """The checkpoints of two steps; the newest is 7-2."""
    checkpoints = CheckpointFolder(folder, ADA, boot=7)
    for step in (1, 2):
        progress = {"step": step, "exchanges": 3, "elapsed_s": 1.5, "saved_unix_s": 1.7e9}
        checkpoints.save(*Checkpoint.of(*trained(), progress, "sgp", {"weight": 1.0}).encode())
    return checkpoints


def use(saved: Saved) -> int:
    """What a worker does with a checkpoint, up to its next step."""
    model, optimizer = trained()
    checkpoint = Checkpoint.decode(saved.tensors, saved.content)
    checkpoint.restore(model, optimizer)
    checkpoint.recalled("sgp")
    checkpoint.restore_generators(torch.device("cpu"))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return int(checkpoint.progress["step"])


def sealed_anew(folder: Path, tensors: bytes | None = None, change: Any = None) -> None:
    """Change the newest checkpoint, with checksums that are right again."""
    note = json.loads((folder / "7-2.json").read_text())["note"]
    if change is not None:
        change(note)
    if tensors is not None:
        (folder / "7-2.safetensors").write_bytes(tensors)
        note |= {"bytes": len(tensors), "sha256": hashlib.sha256(tensors).hexdigest()}
    digest = hashlib.sha256(json.dumps(note).encode()).hexdigest()
    (folder / "7-2.json").write_text(json.dumps({"sha256": digest, "note": note}))


def put(note: dict[str, Any], path: str, value: Any) -> None:
    if "." not in path and path not in note:  # a setting of the first group
        entries = dict(note["content"]["optimizer"]["state"]["dict"])
        group = entries["param_groups"][0]["dict"]
        next(pair for pair in group if pair[0] == path)[1] = value
        return
    *outer, last = path.split(".")
    inner: Any = note
    for part in outer:
        inner = inner[int(part) if isinstance(inner, list) else part]
    key: Any = int(last) if isinstance(inner, list) else last
    if value is MISSING:
        del inner[key]
    else:
        inner[key] = value


CHANGES: list[tuple[str, Any, str]] = [
    ("format", 99, "it has format 99, and this release reads"),
    ("format", [], "it has format []"),
    ("format", "\x1b[2J", "it has format '\\x1b[2J'"),
    ("format", MISSING, "it has format None"),
    ("identity", [], "identity = []"),
    ("identity.peer", 3, "identity.peer = 3"),
    ("score", "low", "score = 'low'"),
    ("score", math.nan, "score = nan"),
    ("bytes", "64", "bytes = '64'"),
    ("bytes", 2**61, "it is torn"),
    ("bytes", -1, "bytes = -1"),
    ("sha256", 3, "sha256 = 3"),
    ("content", [], "content = []"),
    ("content", MISSING, "content: is missing"),
    ("content.progress", [], "progress = []"),
    ("content.progress", MISSING, "it lacks 'progress'"),
    ("content.progress.step", "7", "progress.step = '7'"),
    ("content.progress.step", 2.5, "progress.step = 2.5"),
    ("content.progress.step", -1, "progress.step = -1"),
    ("content.progress.step", 10**30, "progress.step = 1000000000000000000000000000000"),
    ("content.progress.exchanges", None, "progress.exchanges = None"),
    ("content.progress.elapsed_s", math.nan, "progress.elapsed_s = nan"),
    ("content.progress.saved_unix_s", "x", "progress.saved_unix_s"),
    ("content.optimizer", 3, "optimizer = 3"),
    ("content.optimizer.kind", [], "optimizer.kind = []"),
    ("content.optimizer.kind", "SGD", "it is of another optimizer: SGD, not Adam"),
    ("content.optimizer.groups", {}, "optimizer.groups = {}"),
    ("content.optimizer.groups", [], "its groups of parameters differ"),
    ("content.optimizer.groups.0", "2", "optimizer.groups[0]"),
    ("content.optimizer.groups.0", 3, "its groups of parameters differ"),
    ("content.optimizer.gave", 3, "optimizer.gave = 3"),
    ("content.optimizer.state", MISSING, "it cannot be used (KeyError: 'state')"),
    ("content.optimizer.state", 3, "optimizer.state has no groups and states"),
    ("content.optimizer.state", {"pickle": "x"}, "it cannot be used (ValueError: 'pickle' is no kind of value)"),
    ("content.optimizer.state", {"dict": 3}, "it cannot be used (TypeError"),
    ("content.optimizer.state", {"dict": [[3]]}, "it cannot be used (ValueError"),
    ("content.optimizer.state", {"dict": [[[], 1]]}, "it cannot be used (TypeError: unhashable"),
    ("content.optimizer.state", {"size": [10**30]}, "it cannot be "),
    ("content.optimizer.state", {"array": "rng.cpu", "shape": [10**30], "dtype": "u1"}, "it cannot be "),
    ("content.optimizer.state", {"array": "rng.cpu", "shape": [5056], "dtype": "S99999999999"}, "it cannot be "),
    ("content.optimizer.state", {"deque": [[], 10**30]}, "it cannot be "),
    ("content.optimizer.state", {"tensor": "nowhere"}, "it cannot be used (KeyError: 'nowhere')"),
    ("content.optimizer.state", {"tensor": ["x"]}, "it cannot be used (TypeError"),
    ("content.optimizer.state", {"parameter": 99}, "it cannot be used (IndexError"),
    (
        "content.optimizer.state",
        {"dict": [["state", {"dict": [[9, {"dict": []}]]}], ["param_groups", [{"dict": []}]]]},
        "optimizer.state is of a parameter 9 of 2",
    ),
    ("lr", "fast", "lr = 'fast', where 0.1 is now"),
    ("lr", [0.1], "lr = [0.1], where 0.1 is now"),
    ("betas", 0.9, "betas = 0.9, where"),
    ("betas", {"tuple": [0.9]}, "betas = (0.9,), where"),
    ("betas", {"tuple": [0.9, "x"]}, "betas = (0.9, 'x'), where"),
    ("params", 3, "it cannot be used"),
    ("content.strategy", None, "strategy = None"),
    ("content.memory", [], "memory = []"),
    ("content.memory.weight", {"x": 1}, "it cannot be read (ValueError: 'x' is no kind of value)"),
    ("content.memory.weight", {"tensor": "\x1b[2J"}, "it cannot be read (KeyError: '\\x1b[2J')"),
    ("content.model", [], "model = []"),
    ("content.model", {"weight": {"tensor": "nowhere"}}, "it cannot be used (KeyError: 'nowhere')"),
    ("content.model", {"weight": 3}, "it is of another model: model.weight is int"),
    ("content.settings", 3, "settings = 3"),
    ("content.generators", 3, "generators = 3"),
    ("content.generators.python", MISSING, "generators.python is the state of no generator (KeyError: 'python')"),
    ("content.generators.python", [3, [1, 2], None], "generators.python is the state of no generator"),
    ("content.generators.python.1.0", 2**40, "generators.python is the state of no generator"),
    ("content.generators.python.1.0", "x", "generators.python is the state of no generator"),
    ("content.generators.python.2", "x", "generators.python is the state of no generator"),
    ("content.generators.numpy", [], "generators.numpy is the state of no generator"),
    ("content.generators.numpy.bit_generator", "PCG64", "generators.numpy is the state of no generator"),
    ("content.generators.numpy.state.key", [1] * 3, "generators.numpy is the state of no generator"),
    ("content.generators.numpy.state.key.5", 2**40, "generators.numpy is the state of no generator"),
    ("content.generators.numpy.state.pos", "x", "generators.numpy is the state of no generator"),
    ("content.generators.numpy.gauss", "x", "generators.numpy is the state of no generator"),
]


@pytest.mark.parametrize(("path", "value", "reason"), CHANGES)
def test_malformed_content_makes_the_one_before_it_count(tmp_path: Path, path: str, value: Any, reason: str) -> None:
    checkpoints = two(tmp_path)
    sealed_anew(tmp_path, change=lambda note: put(note, path, value))
    step, refusals = checkpoints.newest(use)
    assert step == 1
    ((number, why),) = refusals
    assert number == Number(7, 2)
    assert reason in why
    assert why.isprintable()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[]", "should be a valid dictionary"),
        (b"3", "its JSON"),
        (b'{"note": 3, "sha256": "x"}', "note = 3"),
        (b'{"note": {}, "sha256": 3}', "sha256 = 3"),
        (b'{"note": {}}', "sha256: is missing"),
        (b"[" * 10**5, "is nested"),
        (b'{"a":' * 10**5, "is nested"),
        (b"1" + b"0" * 5000, "too many digits"),
        (b"\xff\xfe", "UTF-16"),
        (b"\x80", "is not UTF-8 text"),
        (b'{"note": {}, "note": {}, "sha256": ""}', "has the key 'note' twice"),
        (b'{"note": {}, "sha256": "x"}', "the checksum of its JSON differs"),
    ],
)
def test_json_that_is_none_makes_the_one_before_it_count(tmp_path: Path, content: bytes, reason: str) -> None:
    checkpoints = two(tmp_path)
    (tmp_path / "7-2.json").write_bytes(content)
    step, ((_, why),) = checkpoints.newest(use)
    assert step == 1
    assert reason in why
    checkpoints.save(*Checkpoint.of(*trained(), {"step": 3, "exchanges": 0}).encode(), 0.5)  # nor is pruning disturbed
    assert checkpoints.newest(use)[0] == 3


def headed(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    "tensors",
    [
        b"",
        b"\0" * 7,
        (2**63).to_bytes(8, "little") + b"{}",
        (10**8).to_bytes(8, "little"),
        headed([]),
        headed(3),
        headed({"a": 3}),
        headed({"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}),
        headed({"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 4]}}, b"1234"),
        headed({"a": {"dtype": "F77", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        headed({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
        headed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"1234"),
        headed({"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}, b"1234"),
        headed(b"[" * 10**5),
        headed(b'{"a":' * 10**5),
        headed(b'{"a": 1' + b"0" * 5000 + b"}"),
        headed(b"\xff\xfe"),
        headed({"rng.cpu": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}),
        headed({"rng.cpu": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"1"),
        headed({"rng.cpu": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}, b"1"),
    ],
)
def test_tensors_that_are_none_make_the_one_before_it_count(tmp_path: Path, tensors: bytes) -> None:
    checkpoints = two(tmp_path)
    sealed_anew(tmp_path, tensors)
    step, ((_, why),) = checkpoints.newest(use)
    assert step == 1
    assert "cannot be read" in why
    assert why.isprintable()


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("rng.cpu", torch.zeros(3, dtype=torch.uint8), "rng.cpu is the state of no generator"),
        ("rng.cpu", torch.zeros(5056), "rng.cpu is the state of no generator"),
        ("rng.cuda", torch.zeros(16), "rng.cuda is the state of no generator"),
        ("model.weight", torch.zeros(2, 4), "it is of another model: model.weight is float32 [2, 4]"),
        ("model.weight", torch.zeros(2, 3).double(), "it is of another model: model.weight is float64 [2, 3]"),
        ("model.\x1b", torch.zeros(1), "it is of another model: model.\\x1b is float32 [1]"),
        ("optimizer.x", torch.zeros(1), ""),
    ],
)
def test_odd_tensors_make_the_one_before_it_count(tmp_path: Path, name: str, tensor: torch.Tensor, reason: str) -> None:
    checkpoints = two(tmp_path)
    saved = checkpoints.read(Number(7, 2))
    tensors = Checkpoint.decode(saved.tensors, saved.content).tensors
    sealed_anew(tmp_path, save(tensors | {name: tensor}))
    step, refusals = checkpoints.newest(use)
    assert step == (1 if reason else 2)  # one with a name of nobody's does no harm
    assert reason in "".join(why for _, why in refusals)
    assert "".join(why for _, why in refusals).isprintable()


def first_format(folder: Path, change: Any) -> None:
    """The newest checkpoint as release 0.1 wrote it, changed."""
    model, optimizer = trained()
    state = optimizer.state_dict()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for place, entries in state["state"].items():
        tensors |= {f"optimizer.{place}.{key}": value for key, value in entries.items()}
    tensors["rng.cpu"] = torch.get_rng_state()

    def older(note: dict[str, Any]) -> None:
        note["format"] = 1
        content = note["content"]
        content["optimizer"] = {"kind": "Adam", "groups": state["param_groups"], "plain": {}}
        content["memory"] = {"weight": 1.0}
        content.pop("model", None)
        content.pop("settings", None)
        change(content)

    sealed_anew(folder, save(tensors), older)


OLDER: list[tuple[str, Any, str]] = [
    ("optimizer.groups", 3, "optimizer.groups = 3"),
    ("optimizer.groups", [3], "it cannot be read"),
    ("optimizer.groups.0.params", MISSING, "params: is missing"),
    ("optimizer.groups.0.params", ["0", 1], "params[0] = '0'"),
    ("optimizer.groups.0.lr", "fast", "lr = 'fast', where 0.1 is now"),
    ("optimizer.groups.0.betas", [0.9], "betas = [0.9], where"),
    ("optimizer.plain", 3, "optimizer.plain = 3"),
    ("optimizer.plain", {"9.step": 1.0}, "optimizer.state is of a parameter 9 of 2"),
    ("optimizer.plain", {"x.step": 1.0}, "it cannot be read"),
    ("optimizer.plain", {"step": 1.0}, "it cannot be read"),
    ("optimizer.plain", {"0" * 5000 + ".step": 1.0}, "it cannot be read"),
    ("memory.weight", {"x": 1}, "it cannot be read"),
    ("optimizer.groups.0.growth", math.inf, ""),
]


@pytest.mark.parametrize(("path", "value", "reason"), OLDER)
def test_the_same_holds_for_a_checkpoint_of_release_0_1(tmp_path: Path, path: str, value: Any, reason: str) -> None:
    checkpoints = two(tmp_path)
    first_format(tmp_path, lambda content: None)
    assert checkpoints.newest(use) == (2, [])
    first_format(tmp_path, lambda content: put(content, path, value))
    step, refusals = checkpoints.newest(use)
    assert step == (1 if reason else 2)
    assert reason in "".join(why for _, why in refusals)
    assert "".join(why for _, why in refusals).isprintable()


def test_a_deep_state_of_an_optimizer_is_no_malformed_one(tmp_path: Path) -> None:
    model, optimizer = trained()
    deep: Any = 1
    for _ in range(50):
        deep = {"inner": deep}
    optimizer.state[model.weight]["deep"] = deep  # type: ignore[index]
    checkpoints = CheckpointFolder(tmp_path, ADA, boot=7)
    checkpoints.save(*Checkpoint.of(model, optimizer, {"step": 1, "exchanges": 0}).encode())
    assert checkpoints.newest(use) == (1, [])


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    folder = CheckpointFolder(tmp_path / "checkpoints", ADA)
    with pytest.raises(ConfigError, match="is a file, where the folder of the checkpoints is to be"):
        resume(folder, Learner("ada", 0, ("ada",), *trained(), torch.device("cpu"), 0), resolve([file_layer(None)]))
