"""Every kind of file that the package reads: a good one, how it is read, and what must hold of what was read."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zmq
from rich.console import RenderableType
from safetensors import deserialize
from safetensors.numpy import save
from torch import nn
from zmq.utils import z85

from benchmarks.fuzzing.file_mutator import Spoiler, as_json, as_toml
from gossipdistill.config.layers import file_layer
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.config.resolving import resolve
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.durable import CheckpointFolder, RefusedCheckpointError, Saved
from gossipdistill.errors import ConfigError, DataMissingError, GossipdistillError, IdentityError
from gossipdistill.faults import load_fault_plan
from gossipdistill.files import parse_json
from gossipdistill.keys.joining import read_join
from gossipdistill.keys.secrets import read_secret
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.observe import report
from gossipdistill.observe.fitting import PlainConsole
from gossipdistill.observe.show import find_and_wait, render
from gossipdistill.observe.story import tell
from gossipdistill.roster import read_roster
from gossipdistill.runtime.start_count import StartCount
from gossipdistill.tasks.idx import read_idx
from gossipdistill.tasks.tabular import read_records
from gossipdistill.topology import load_topology

PEERS = ("ada", "bo", "cy", "dee")


class UnsoundError(Exception):
    """What was read breaks a promise: a control character is shown, a number is not finite."""


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    `make` spoils a good one; `read` puts it into an empty folder, has it read as the package does, and returns what a
    user would see of it. `parses` is whether the syntax alone is right.
    """

    name: str
    make: Callable[[Spoiler], bytes]
    read: Callable[[Path, bytes], str]
    parses: Callable[[bytes], bool]
    refusals: tuple[type[Exception], ...] = (ConfigError,)
    share: float = 1.0
    """How many of these there are among all, in relation to the others."""


# --- texts: JSON and TOML ---------------------------------------------------------------------------------------------


def _spoilt(good: Any, write: Callable[[Any], str]) -> Callable[[Spoiler], bytes]:
    def make(spoiler: Spoiler) -> bytes:
        if spoiler.chance.random() < 0.25:
            return spoiler.bytes(write(good).encode())
        return write(spoiler.value(good)).encode("utf-8", errors="replace")

    return make


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _is_toml(content: bytes) -> bool:
    try:
        tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True


def _put(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def _drawn(renderable: RenderableType) -> str:
    out = io.StringIO()
    PlainConsole(file=out, width=100, highlight=False, markup=False, emoji=False).print(renderable)
    return out.getvalue()


RUN = {
    "name": "mine",
    "peers": "4",
    "topology": "ring",
    "steps": 100,
    "seed": 3,
    "task": {"name": "digits", "shards": "label_skew", "model": "mlp", "hidden": [16, 16]},
    "train": {
        "optimizer": "adam",
        "lr": 0.05,
        "lr_schedule": "drops",
        "lr_drops": [0.4, 0.8],
        "batch_size": 32,
        "optimizer_options": {"eps": 1e-8},
    },
    "strategy": {"name": "gossip_averaging"},
    "exchange": {"every_steps": 5, "encoding": "raw", "mode": "push"},
    "sim": {"latency_s": 0.005},
}
ROSTER = {
    "peer": [
        {
            "name": name,
            "address": f"127.0.0.1:{7400 + 2 * place}",
            "set": {"task": {"model": "cnn"}},
            "slowdown": 2.0,
            "device": "cpu",
            "shard": f"{place + 1}/4",
        }
        for place, name in enumerate(PEERS)
    ]
}
TOPOLOGIES = [
    {"kind": "ring"},
    {"kind": "random_regular", "degree": 3, "seed": 4},
    {"kind": "torus", "rows": 2},
    {"kind": "star", "hub": "bo"},
    {"kind": "edges", "edges": [["ada", "bo"], ["bo", "cy"]], "both_ways": True},
    {"kind": "phases", "phases": [[["ada", "bo"]], [["bo", "cy"], ["cy", "dee"]]]},
]
PLAN = {
    "seed": 3,
    "fault": [
        {"kind": "drop", "link": ["ada", "*"], "probability": 0.2, "from_s": 2.0, "to_s": 5.0},
        {"kind": "partition", "groups": [["ada", "bo"], ["cy"]], "from_s": 3.0, "to_s": 4.0},
        {"kind": "kill", "peer": "dee", "at_s": 4.0, "restart_after_s": 1.0},
        {"kind": "slow", "peer": ["bo", "cy"], "factor": 3.0, "from_s": 5.0},
        {"kind": "clock_jump", "peer": "*", "share": 0.5, "at_s": 6.0, "seconds": -3.0},
    ],
    "expect": [
        {"metric": "pace_ratio", "peers": "all", "at_least": 0.5},
        {"metric": "val_accuracy", "at_least": 0.7},
        {"metric": "rejoin_s", "peers": ["dee"], "at_most": 5.0},
    ],
}


def _read_run(folder: Path, content: bytes) -> str:
    resolved = resolve([file_layer(_put(folder, "run.toml", content))])
    text = report.as_json(resolved.as_json())
    if parse_json(text) != json.loads(text):
        raise UnsoundError("its settings do not survive being written down")
    return text


def _read_plan(folder: Path, content: bytes) -> str:
    plan = load_fault_plan(_put(folder, "plan.toml", content), PEERS)
    return " ".join(fault.words() for fault in plan.fault) + " ".join(expected.bound() for expected in plan.expect)


def _read_topology(folder: Path, content: bytes) -> str:
    _put(folder, "links.toml", content)
    schedule = load_topology("links.toml", PEERS, base=folder)
    return str([schedule.edges(exchange) for exchange in range(min(schedule.period, 8))])


def _topology(spoiler: Spoiler) -> bytes:
    return _spoilt(spoiler.chance.choice(TOPOLOGIES), as_toml)(spoiler)


# --- what a run leaves ------------------------------------------------------------------------------------------------

EXAMPLES = {"used": 100, "pool": 800, "asked": None, "transfer": 10}
FAULT = {"what": "bo is killed", "began_s": 1.0, "ended_s": None, "fired": 3}
RESULT = {
    "name": "ada",
    "status": "finished",
    "pid": 7,
    "incarnations": 2,
    "steps": 5,
    "steps_per_s": 1.0,
    "wall_s": 5.0,
    "cpu_s_per_step": None,
    "val_loss": 0.5,
    "val_accuracy": 0.5,
    "metrics": {"accuracy": 0.5, "f1": 0.25},
    "bytes_sent": 1,
    "bytes_received": 7,
    "parcels_used": 1,
    "age_s": {"median": 0.1},
    "quarantined": {"bo": 1},
    "warnings": ["one", "two"],
    "reason": "lost",
    "troubles": ["one"],
    "unusual_norms": {"bo": 2},
    "turned_away": {"bo: rate": 3},
    "malformed": {"bo": 1},
    "waited_s": 1.0,
    "links": [{"from": "bo", "to": "ada", "exchanges": 3}],
    "examples": EXAMPLES,
}
SUMMARY = {
    "schema": 1,
    "name": "mine",
    "task": "digits",
    "strategy": "sgp",
    "topology": "ring",
    "seed": 0,
    "wall_s": 1.5,
    "exit_code": 0,
    "val_accuracy": {"mean": 0.5, "worst": 0.4, "ensemble": 0.6, "over": 2},
    "data": "100 each",
    "peers": [RESULT, RESULT | {"name": "bo", "status": "lost"}],
    "links": [],
    "faults": [FAULT],
    "expectations": [{"line": "pace: met", "met": True}],
}
CONFIG = {
    key: {"value": value, "from": "default"}
    for key, value in {
        "name": "mine",
        "peers": "2",
        "topology": "ring",
        "seed": 0,
        "task.name": "digits",
        "strategy.name": "sgp",
        "task.shards": "label_skew",
        "task.classes_per_peer": 3,
    }.items()
}
ROW = {
    "strategy": "sgp",
    "seed": 0,
    "faults": None,
    "run": "mine",
    "exit_code": 0,
    "peers": 2,
    "finished": 2,
    "troubles": ["bo lost"],
    "warnings": ["ada: one"],
    "models": ["mlp", "cnn"],
    "val_loss": 0.5,
    "val_accuracy": {"mean": 0.5, "worst": 0.4},
    "bytes_sent_per_peer": 1.5,
    "bytes_are_computed": False,
    "cpu_s_per_step": 0.001,
    "expectations": [{"line": "pace: met", "met": True}],
}
COMPARISON = {
    "schema": 1,
    "name": "mine",
    "task": "digits",
    "budget": {"steps": 5, "seconds": 2.5},
    "step_time_s": 0.02,
    "examples_per_peer": 100,
    "transfer_examples": 10,
    "classes": True,
    "config": CONFIG,
    "peers": 2,
    "seeds": [0, 1],
    "runs": [ROW, ROW | {"seed": 1, "exit_code": 130}, ROW | {"strategy": "isolated"}, ROW | {"faults": "bad-day"}],
    "exit_code": 130,
    "examples": EXAMPLES,
    "strategies": ["sgp", "isolated", "pooled"],
}
EVENT = {"at_s": 1.5, "kind": "dead", "peer": "bo", "reason": "silent", "detail": {"topic": "t", "number": 3}}
EVENTS = [EVENT, EVENT | {"kind": "parked"}, EVENT | {"kind": "joined", "at_s": 0.5}, EVENT | {"kind": "started"}]


def _shown(folder: Path) -> str:
    found = find_and_wait(folder.parent, folder.name, 0.0, PlainConsole(file=io.StringIO()))
    parse_json(report.as_json(found))
    json.dumps(found.plain(), allow_nan=False)
    return _drawn(render(found))


def _read_in_run(name: str) -> Callable[[Path, bytes], str]:
    """A file of a peer, in a run folder whose other files are good."""

    def read(folder: Path, content: bytes) -> str:
        good = {"ada/config.json": CONFIG, "ada/result.json": RESULT, "ada/faults.json": {"faults": [FAULT]}}
        for other, value in good.items():
            _put(folder, other, json.dumps(value).encode())
        _put(folder, name, content)
        return _shown(folder)

    return read


def _read_whole(name: str) -> Callable[[Path, bytes], str]:
    def read(folder: Path, content: bytes) -> str:
        _put(folder, name, content)
        return _shown(folder)

    return read


def _events(spoiler: Spoiler) -> bytes:
    lines = [json.dumps(event) for event in EVENTS]
    place = spoiler.chance.randrange(len(lines))
    lines[place] = as_json(spoiler.value(EVENTS[place]))
    content = "\n".join([*lines, ""]).encode("utf-8", errors="replace")
    return spoiler.bytes(content) if spoiler.chance.random() < 0.25 else content


def _read_events(folder: Path, content: bytes) -> str:
    _put(folder, "ada/events.jsonl", content)
    return "\n".join([*tell(folder, "ada"), *tell(folder, "ada/t/3")])


# --- checkpoints ------------------------------------------------------------------------------------------------------

WHO = {"peer": "ada", "task": "digits"}


def _trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def _good_checkpoint() -> tuple[bytes, dict[str, Any]]:
    progress = {"step": 7, "exchanges": 3, "elapsed_s": 1.5, "saved_unix_s": 1.7e9}
    memory = {"weight": 1.5, "velocity": torch.ones(3)}
    made = Checkpoint.of(*_trained(), progress, "sgp", memory)
    made.generators["python"] = random.Random(3).getstate()
    made.generators["numpy"] = np.random.RandomState(3).get_state(legacy=False)
    parts, content = made.encode()
    return b"".join(parts), json.loads(json.dumps(content))


TENSORS, CONTENT = _good_checkpoint()
"""The 624 words of the two generators are left out of what is spoilt: nearly every change would be one to them."""


def _noted(tensors: bytes, content: Any) -> dict[str, Any]:
    digest = hashlib.sha256(tensors).hexdigest()
    return {"format": 2, "identity": WHO, "score": 0.5, "bytes": len(tensors), "sha256": digest, "content": content}


def _sealed(note: str) -> bytes:
    """With the checksum of what Python reads of it, if it can: a forger would know it."""
    try:
        digest = hashlib.sha256(json.dumps(json.loads(note)).encode()).hexdigest()
    except (ValueError, RecursionError):
        digest = "0" * 64
    return f'{{"sha256": "{digest}", "note": {note}}}'.encode("utf-8", errors="replace")


def _note(spoiler: Spoiler) -> bytes:
    if spoiler.chance.random() < 0.1:
        return spoiler.bytes(_sealed(json.dumps(_noted(TENSORS, CONTENT))))
    generators = CONTENT["generators"]
    if spoiler.chance.random() < 0.2:
        content = CONTENT | {"generators": spoiler.value(generators)}
        return _sealed(as_json(_noted(TENSORS, content)))
    if spoiler.chance.random() < 0.3:
        return _sealed(as_json(spoiler.value(_noted(TENSORS, CONTENT))))
    content = spoiler.value({key: value for key, value in CONTENT.items() if key != "generators"})
    if isinstance(content, dict):
        content = {**content, "generators": generators}
    return _sealed(as_json(_noted(TENSORS, content)))


def _use(saved: Saved) -> str:
    """What a worker does with a checkpoint, up to its next step."""
    model, optimizer = _trained()
    checkpoint = Checkpoint.decode(saved.tensors, saved.content)
    checkpoint.restore(model, optimizer)
    checkpoint.recalled("sgp")
    checkpoint.restore_generators(torch.device("cpu"))
    return str(int(checkpoint.progress.get("step", 0)))


def _gone_on_from(folder: Path) -> str:
    found, refusals = CheckpointFolder(folder, WHO).newest(_use)
    for refusal in refusals:
        raise RefusedCheckpointError(f"{folder}: {refusal.reason}")
    return str(found)


def _read_note(folder: Path, content: bytes) -> str:
    _put(folder, "7-1.safetensors", TENSORS)
    _put(folder, "7-1.json", content)
    CheckpointFolder(folder, WHO).best()
    return _gone_on_from(folder)


def _headed(spoiler: Spoiler, content: bytes) -> bytes:
    """Another header before the same tensors; or other bytes."""
    if spoiler.chance.random() < 0.2:
        return spoiler.bytes(content)
    length = int.from_bytes(content[:8], "little")
    text = as_json(spoiler.value(json.loads(content[8 : 8 + length]))).encode("utf-8", errors="replace")
    told = len(text) if spoiler.chance.random() < 0.9 else spoiler.chance.choice((0, 2**63, 10**8, len(text) + 7))
    return struct.pack("<Q", told) + text + content[8 + length :]


def _is_headed(content: bytes) -> bool:
    length = int.from_bytes(content[:8], "little")
    return len(content) >= 8 + length and _is_json(content[8 : 8 + length])


def _is_safetensors(content: bytes) -> bool:
    try:
        deserialize(content)
    except Exception:
        return False
    return True


def _read_tensors(folder: Path, content: bytes) -> str:
    _put(folder, "7-1.safetensors", content)
    _put(folder, "7-1.json", _sealed(json.dumps(_noted(content, CONTENT))))
    return _gone_on_from(folder)


OUTPUTS = save({"outputs": np.eye(4, 3, dtype=np.float32), "labels": np.arange(4) % 3})


def _read_outputs(folder: Path, content: bytes) -> str:
    return _read_in_run("ada/validation.safetensors")(folder, content)


# --- keys, and what else there is -------------------------------------------------------------------------------------

_SECRET = z85.encode(bytes(range(32))).decode("ascii")
"""Of nobody; a pair that is made anew would make other mutants each time."""
_PUBLIC = zmq.curve_public(_SECRET.encode("ascii")).decode("ascii")
SECRET = {"name": "ada", "public": _PUBLIC, "secret": _SECRET}
JOIN = {"run": "mine", "secret": "ab" * 32, "name": "ada", "address": "10.0.0.1:7400", "public": _PUBLIC}


def _read_key(folder: Path, content: bytes) -> str:
    file = _put(folder, "ada.secret", content)
    file.chmod(0o600)
    return str(read_secret(file))


def _read_join(folder: Path, content: bytes) -> str:
    file = _put(folder, "mine.join", content)
    file.chmod(0o600)
    return str(read_join(file, "mine"))


def _read_boots(folder: Path, content: bytes) -> str:
    file = _put(folder, "boots.json", content)
    made = StartCount.next(folder, fresh=False)
    if not 0 < made.boot < 2**62 or made.count < 1:
        raise UnsoundError(f"{file}: the next start would be {made}")
    return made.problem


def _specification() -> dict[str, Any]:
    spec = plan_local(Asked(steps=5, peers="2", device="cpu"))[0]
    made: dict[str, Any] = json.loads(spec.to_json())
    here = ["127.0.0.1", 7400]
    made |= {"listen": here, "advertise": here, "addresses": [here, ["127.0.0.1", 7402]], "folder": "runs/mine/ada"}
    made |= {"user_folder": None, "topology_base": None, "notices": []}  # what else is of this machine and moment
    made["resolved"]["config"]["train"]["threads"] = 1
    made["resolved"]["origins"] = {"steps": "command line"}
    return made


_SPEC = _specification()


def _read_spec(folder: Path, content: bytes) -> str:
    return WorkerSpec.read(_put(folder, "spec.json", content)).name


IDX = struct.pack(">4I", 0x0803, 3, 2, 2) + bytes(range(12))


def _idx(spoiler: Spoiler) -> bytes:
    if spoiler.chance.random() < 0.5:
        return spoiler.bytes(IDX)
    pick = spoiler.chance.choice
    head = struct.pack(">4I", pick((0x0803, 0x0801, 0x0D03, 2**32 - 1)), pick((3, 2**32 - 1)), 2, pick((2, 0)))
    return head + spoiler.chance.randbytes(pick((12, 12, 11, 0)))


def _read_idx(folder: Path, content: bytes) -> str:
    return str(read_idx(_put(folder, "images", content), (3, 2, 2), hashlib.sha256(content).hexdigest()).shape)


ADULT = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, U, >50K"
)


def _read_adult(folder: Path, content: bytes) -> str:
    return str(len(read_records(_put(folder, "adult.data", content), hashlib.sha256(content).hexdigest())))


KINDS = (
    Kind("run file", _spoilt(RUN, as_toml), _read_run, _is_toml, share=2.0),
    Kind("roster", _spoilt(ROSTER, as_toml), lambda f, c: str(read_roster(_put(f, "peers.toml", c)).names), _is_toml),
    Kind("topology", _topology, _read_topology, _is_toml, share=2.0),
    Kind("fault plan", _spoilt(PLAN, as_toml), _read_plan, _is_toml, share=2.0),
    Kind("secret key", _spoilt(SECRET, as_toml), _read_key, _is_toml, (IdentityError,)),
    Kind("join file", _spoilt(JOIN, as_toml), _read_join, _is_toml, (IdentityError,)),
    Kind("summary.json", _spoilt(SUMMARY, as_json), _read_whole("summary.json"), _is_json),
    Kind("compare.json", _spoilt(COMPARISON, as_json), _read_whole("compare.json"), _is_json),
    Kind("result.json", _spoilt(RESULT, as_json), _read_in_run("ada/result.json"), _is_json),
    Kind("config.json", _spoilt(CONFIG, as_json), _read_in_run("ada/config.json"), _is_json),
    Kind("faults.json", _spoilt({"faults": [FAULT]}, as_json), _read_in_run("ada/faults.json"), _is_json, share=0.5),
    Kind("events.jsonl", _events, _read_events, lambda c: all(map(_is_json, filter(None, c.split(b"\n")))), share=2.0),
    Kind("checkpoint, JSON", _note, _read_note, _is_json, (RefusedCheckpointError,), share=2.0),
    Kind("checkpoint, tensors", lambda s: _headed(s, TENSORS), _read_tensors, _is_headed, (RefusedCheckpointError,)),
    Kind("validation.safetensors", lambda s: _headed(s, OUTPUTS), _read_outputs, _is_headed),
    Kind("boots.json", _spoilt({"count": 3, "boot": 1_700_000_000_000}, as_json), _read_boots, _is_json, ()),
    Kind("spec.json", _spoilt(_SPEC, as_json), _read_spec, _is_json, (GossipdistillError,)),
    Kind("idx file", _idx, _read_idx, lambda c: c[:16] == IDX[:16], (DataMissingError,), share=0.5),
    Kind(
        "adult.data",
        lambda s: s.bytes("\n".join([ADULT] * 3).encode()),
        _read_adult,
        lambda c: b"," in c,
        (DataMissingError,),
        share=0.5,
    ),
)
