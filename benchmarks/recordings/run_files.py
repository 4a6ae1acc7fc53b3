"""The files of a run and what commands print as JSON: every key with the types of its values, without the values.

One line per key: `FILE PATH TYPES`. `absent`: the key is not in every object. `[]` are the entries of a list, `PEER`
stands for any peer's name, and the details of events stand under their kind.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from benchmarks.recordings.commands import SEED, called, workers

FILE = "run_files.txt"
NAMES = ("ada", "bo", "cy", "dee")
Keys = dict[tuple[str, str], set[str]]
"""(file, path of a key) -> types of its values."""

_TYPES = {bool: "boolean", int: "whole", float: "number", str: "text", list: "list", dict: "object", type(None): "null"}
_COUNTS = ("/quarantined", "/unusual_norms", "/out_of_range", "/turned_away", "/malformed")
"""Tables of counts by a word: which words occur depends on what happens."""
_OFTEN = ("--set", "exchange.every_steps=2", "--set", "exchange.per_second_max=0")
_QUICK = ("--topology", "complete", "--set", "train.step_time_s=0.01", *_OFTEN)
_PLAN = """
[[fault]]
kind = "kill"
peer = "bo"
at_s = 2
restart_after_s = 1

[[fault]]
kind = "drop"
from_s = 2
to_s = 3
link = ["*", "*"]
probability = 0.1

[[expect]]
metric = "pace_ratio"
at_least = 0.01
"""
_LOSS = """
[[fault]]
kind = "kill"
peer = "cy"
at_s = 3
"""


def taken(folder: Path) -> Keys:
    """Of two workers, a simulation and the commands that look at them; `folder` is an empty one."""
    (folder / "plan.toml").write_text(_PLAN)
    printed = workers(folder, NAMES[:2], "--strategy", "sgp", "--steps", "20", *_QUICK, "--format", "json")
    simulated = ("simulate", "--peers", "roster.toml", "--virtual-seconds", "6", "--seed", str(SEED))
    looks = {
        "simulate": (*simulated, *_OFTEN, "--faults", "plan.toml", "--format", "json"),
        "show": ("show", "first-light", "--format", "json"),
        "config show": ("config", "show", "train.lr", "--format", "json"),
        "keys show": ("keys", "show", "--peers", "roster.toml", "--format", "json"),
        "doctor": ("doctor", "--peers", "roster.toml", "--name", "ada", "--seconds", "0", "--format", "json"),
    }
    outputs = dict(zip(looks, called(folder, *looks.values()), strict=True))
    printed += [outputs.pop("show")]
    found = [keys_of([json.loads(output)], f"output of {command}") for command, output in outputs.items()]
    found += [
        keys_of(list(map(json.loads, printed)), "summary.json"),
        keys_of_run(folder / "runs/first-light", "worker"),
    ]
    return merged([*found, keys_of_run(folder / "runs/simulated", "simulate")])


def taken_of_launchers(folder: Path) -> Keys:
    """Of `run` and `compare`, which start processes; `folder` is an empty one."""
    (folder / "plan.toml").write_text(_PLAN + _LOSS)
    program = [sys.executable, "-m", "gossipdistill"]
    common = ["--peers", "3", "--device", "cpu", "--seconds", "5", *_QUICK, "--faults", "plan.toml", "--format", "json"]
    found = []
    for words, run, file in (
        (["run", "--strategy", "sgp"], "first-light", "summary.json"),
        (["compare", "--strategies", "isolated,sgp,all_reduce,pooled"], "first-light-compare", "compare.json"),
    ):
        ended = subprocess.run([*program, *words, *common], cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode in (0, 20), ended.stderr
        found += [keys_of([json.loads(ended.stdout)], file), keys_of_run(folder / "runs" / run, words[0])]
    return merged(found)


def keys_of_run(folder: Path, command: str) -> Keys:
    """Of all files of the run that this command has written; runs of a comparison lie in it."""
    files = {path: _masked(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()}
    found = [keys_of([dict.fromkeys(files.values(), "file")], f"files of {command}")]
    for path, name in files.items():
        in_run = name.partition("/")[2] if command == "compare" and "/" in name else name
        of = "output of simulate" if (command, name) == ("simulate", "summary.json") else in_run
        found.append(keys_of(list(_contents(path)), of))
    return merged(found)


def keys_of(values: list[Any], file: str) -> Keys:
    """Of these values, all of one shape."""
    types: dict[tuple[str, str], set[str]] = defaultdict(set)
    objects: dict[str, list[set[str]]] = defaultdict(list)
    for value in values:
        for path, kind, inner in _walk("", value):
            types[file, path].add(kind)
            if kind == "object":
                objects[path].append(inner)
    for path, seen in objects.items():
        for name in set.union(*seen) - set.intersection(*seen):
            types[file, f"{path}/{name}"].add("absent")
    return {key: _settled(kinds) for key, kinds in types.items()}


def merged(several: Iterable[Keys]) -> Keys:
    """What was found in any; a key that only some of them have in an object that they share is not always there."""
    out: Keys = {}
    for keys in several:
        missing = [key for one, other in ((out, keys), (keys, out)) for key in one if _lacks(other, key)]
        for key, types in keys.items():
            out[key] = _settled(out.get(key, set()) | types)
        for key in missing:
            out[key] = out[key] | {"absent"}
    return out


def differences(recorded: Keys, found: Keys) -> list[str]:
    """What was found and is not as recorded: new keys, missing ones, other types.

    What did not occur is not judged, nor is the type of what was always null.
    """
    out = []
    for key, types in sorted(found.items()):
        known = recorded.get(key)
        if known is None:
            if not _is_unseen(recorded, key):
                out.append(f"{_shown(key)} is new")
        elif not types - {"null", "absent"} <= known and known != {"null"}:
            out.append(f"{_shown(key)} is {'|'.join(sorted(types))}, and was {'|'.join(sorted(known))}")
        elif "absent" in types and "absent" not in known:
            out.append(f"{_shown(key)} is not always there any more")
    for key, known in sorted(recorded.items()):
        if "absent" not in known and _lacks(found, key):
            out.append(f"{_shown(key)} is gone")
    return out


def as_text(keys: Keys) -> str:
    """One line per key."""
    lines = (f"{file}\t{path or '/'}\t{'|'.join(sorted(types))}" for (file, path), types in sorted(keys.items()))
    return "".join(f"{line}\n" for line in lines)


def of_text(text: str) -> Keys:
    """The inverse."""
    rows = (line.split("\t") for line in text.splitlines())
    return {(file, "" if path == "/" else path): set(types.split("|")) for file, path, types in rows}


def _settled(kinds: set[str]) -> set[str]:
    """Nothing is said by a null where other values were seen."""
    return kinds - {"null"} if kinds - {"null", "absent"} else kinds


def _lacks(keys: Keys, key: tuple[str, str]) -> bool:
    """Whether the object that this key belongs to is there, without it."""
    file, path = key
    return (
        bool(path)
        and not path.endswith("[]")
        and key not in keys
        and "object" in keys.get((file, path.rpartition("/")[0]), ())
    )


def _is_unseen(recorded: Keys, key: tuple[str, str]) -> bool:
    """Whether it lies in what did not occur when it was recorded: an event of another kind, an entry of a list that was
    empty."""
    file, path = key
    event = re.match(r"/detail of \w+", path)
    lists = [path[: found.end()] for found in re.finditer(r"\[\]", path)]
    unseen = [start for start in [event[0] if event else None, *lists] if start and (file, start) not in recorded]
    return bool(unseen) and (file, unseen[0].removesuffix("[]").rpartition("/")[0]) in recorded


def _masked(path: Path) -> str:
    parts = ["PEER" if part in NAMES else re.sub(r"\d{6,}", "NUMBER", part) for part in path.parts]
    return "/".join(parts)


def _shown(key: tuple[str, str]) -> str:
    return f"{key[0]}, {key[1] or 'the whole'}"


def _walk(path: str, value: Any) -> Iterator[tuple[str, str, set[str]]]:
    """(path, type, keys) of a value and of all that is in it."""
    if isinstance(value, dict) and not path.endswith(_COUNTS):
        keys = {name: _key(name, value) for name in value}
        yield path, "object", set(keys.values())
        for name, inner in value.items():
            yield from _walk(f"{path}/{keys[name]}", inner)
        return
    yield path, _TYPES[type(value)], set()
    for entry in value if isinstance(value, list) else ():
        yield from _walk(f"{path}[]", entry)


def _key(name: str, owner: dict[str, Any]) -> str:
    """A peer's name is no key, and the detail of an event has other keys for each kind."""
    if name == "detail" and "at_s" in owner:
        return f"detail of {owner['kind']}"
    return "PEER" if name in NAMES else name.replace("/", "|")


def _contents(path: Path) -> Iterator[Any]:
    """What a file holds, as JSON could say it."""
    if path.suffix == ".json":
        yield json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        yield from map(json.loads, path.read_text().splitlines())
    elif path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            yield {name: file.get_slice(name).get_dtype() for name in file.keys()} | {"metadata": file.metadata()}  # noqa: SIM118
