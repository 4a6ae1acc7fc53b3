"""Every key of a run file with its type, default, unit and meaning, from the schema itself.

The schema is the pydantic models of `config/schema.py`, the options of each strategy and the parameters of each task. A
key that has no meaning written beside it cannot be added: a test looks.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gossipdistill.config.schema import RunConfig
from gossipdistill.errors import ConfigError, nearest
from gossipdistill.optimizers import OPTIMIZERS
from gossipdistill.strategies import STRATEGIES
from gossipdistill.tasks import REQUIRED, TASKS, examples_per_peer_of, task_annotations, task_options
from gossipdistill.wire.encodings import ENCODINGS

_UNITS = {
    "megabytes_per_s": "megabytes (10^6 bytes) per second",
    "bytes_per_s": "bytes per second",
    "per_second_max": "exchanges per second",
    "seconds": "seconds",
    "_s": "seconds",
    "steps": "steps",
    "bytes_max": "bytes",
    "examples_per_peer": "examples",
    "transfer_examples": "examples",
    "batch_size": "examples",
    "_rows": "rows",
    "classes_per_peer": "classes",
    "top_k": "classes",
    "best_k": "teachers",
    "liars_max": "peers",
    "accumulate": "batches",
    "judged_examples": "examples",
    "threads": "threads",
    "checkpoints_kept": "checkpoints",
    "block_size": "symbols",
    "epsilon": "the unit of the inputs",
}
"""This maps the end of a key to its unit; the first that fits counts. Every other number has none."""
_NAMED = {
    "task.name": ", ".join([*TASKS, "module:function"]),
    "strategy.name": ", ".join(STRATEGIES),
    "train.optimizer": ", ".join([*OPTIMIZERS, "module:Class"]),
    "exchange.encoding": ", ".join([*(name for name in ENCODINGS if name != "top_k"), "top_k:K"]),
}
"""These values are accepted where the schema takes any text, and other code looks the name up."""
_BY_STRATEGY = ("exchange.every_steps", "exchange.per_second_max", "exchange.encoding", "train.clip_norm")
"""Each strategy states the defaults of these keys."""
_BOUNDS = {"ge": "{} or more", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Texts are for a user to read; an empty `unit` or `accepted` means that there is none."""

    name: str
    type: str
    default: str
    unit: str
    accepted: str
    meaning: str
    of: tuple[str, ...] = ()
    """The strategies, or the one task, that have this key; empty: every run has it."""

    def facts(self) -> str:
        """Type, unit, what is accepted and the default, in one phrase."""
        kind = f"{self.type} ({self.unit})" if self.unit else self.type
        default = self.default if self.default == "required" else f"default {self.default}"
        return "; ".join(filter(None, [kind, self.accepted, default]))

    def as_json(self) -> dict[str, Any]:
        """For `--format json`."""
        return asdict(self) | {"of": list(self.of)}


def keys() -> list[Key]:
    """All keys, in the order of a run file: those of every run, then options of strategies and of ready-made tasks."""
    found: list[Key] = []
    for name, entry in RunConfig.model_fields.items():
        if isinstance(entry.annotation, type) and issubclass(entry.annotation, BaseModel):
            found += [_key(f"{name}.{inner}", field) for inner, field in entry.annotation.model_fields.items()]
        else:
            found.append(_key(name, entry))
    return [*found, *_of_strategies(), *(key for name in TASKS for key in of_task(name))]


def of_task(name: str) -> list[Key]:
    """The options of a task, be it ready-made or `module:function` of a user's own."""
    annotations = task_annotations(name)
    return [
        Key(
            f"task.{option}",
            type_words(annotations[option]),
            "required" if entry.default is REQUIRED else value_words(entry.default),
            unit_of(option),
            accepted_words(annotations[option]),
            entry.doc,
            (name,),
        )
        for option, entry in task_options(name).items()
    ]


def find(name: str, among: Sequence[Key]) -> list[Key]:
    """The key of this name, once for each kind of owner; or all keys of a section such as `train`.

    Raises:
        ConfigError: with the nearest names.
    """
    found = [key for key in among if key.name == name] or [key for key in among if key.name.startswith(f"{name}.")]
    if not found:
        raise ConfigError(f"unknown key; {nearest(name, {key.name for key in among})}", key="KEY", value=name)
    return found


def type_words(annotation: Any) -> str:
    """An annotation in the words of a run file: whole number, number, text, true or false, list of ..., table of ..."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(arguments[0])
    if origin in (Union, types.UnionType):
        known = dict.fromkeys(type_words(argument) for argument in arguments if argument is not types.NoneType)
        return ", or ".join(known)
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return "text"
    if origin in (tuple, list):
        return f"list of {_several(type_words(arguments[0]))}"
    if origin is dict:
        return f"table of {_several(type_words(arguments[1]))}"
    simple = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return simple.get(annotation, "any value")


def accepted_words(annotation: Any, bounds: Iterable[object] = ()) -> str:
    """The accepted values of the type; "" where all are. `bounds` are pydantic's, of the value itself."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return accepted_words(arguments[0], [*bounds, *_bounds_in(arguments[1:])])
    if origin is Literal:
        return ", ".join(str(argument) for argument in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(str(member.value) for member in annotation)
    if origin in (Union, types.UnionType):
        parts = [accepted_words(one, bounds) for one in arguments if one is not types.NoneType]
        return "; or ".join(dict.fromkeys(part for part in parts if part))
    if origin in (tuple, list, dict):
        inner = accepted_words(arguments[0 if origin is not dict else 1])
        return f"each {inner}" if inner else ""
    told = [
        words.format(value_words(getattr(one, name)))
        for one in bounds
        for name, words in _BOUNDS.items()
        if hasattr(one, name)
    ]
    return " and ".join(told)


def value_words(value: object) -> str:
    """A default as a run file says it; "unset" for None."""
    if value is None:
        return "unset"
    if isinstance(value, Enum):
        return value_words(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(value_words, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {value_words(inner)}" for key, inner in value.items()) + "}"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def unit_of(name: str) -> str:
    """The unit of a number, from the end of its key; "" where it has none."""
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")


def _key(name: str, entry: FieldInfo, of: tuple[str, ...] = ()) -> Key:
    default = value_words(entry.get_default(call_default_factory=True))
    last = name.rpartition(".")[2]
    if name in _BY_STRATEGY:
        default = _defaults_by_strategy(last)
    elif name == "task.examples_per_peer":
        told = [(task, examples_per_peer_of(task)) for task in TASKS]
        default = "; ".join(["all", *(f"for {task} {number}" for task, number in told if number is not None)])
    return Key(
        name,
        type_words(entry.annotation),
        default,
        unit_of(last),
        _NAMED.get(name) or accepted_words(entry.annotation, entry.metadata),
        " ".join((entry.description or "").split()),
        of,
    )


def _defaults_by_strategy(last: str) -> str:
    """`10; for codistill_checkpoints 50; ...`: the value that most strategies state, then the others."""
    by_value: dict[str, list[str]] = {}
    for name, kind in STRATEGIES.items():
        by_value.setdefault(value_words(getattr(kind, last)), []).append(name)
    usual = max(by_value, key=lambda value: len(by_value[value]))
    others = [f"for {', '.join(names)} {value}" for value, names in by_value.items() if value != usual]
    return "; ".join([usual, *others])


def _of_strategies() -> list[Key]:
    """Options of strategies; those that several share alike stand once."""
    owners: dict[Key, list[str]] = {}
    for name, kind in STRATEGIES.items():
        for option, entry in kind.options_type.model_fields.items():
            owners.setdefault(_key(f"strategy.{option}", entry), []).append(name)
    return [
        Key(key.name, key.type, key.default, key.unit, key.accepted, key.meaning, tuple(names))
        for key, names in owners.items()
    ]


def _bounds_in(metadata: Iterable[object]) -> list[object]:
    return [bound for one in metadata for bound in (one.metadata if isinstance(one, FieldInfo) else [one])]


def _several(words: str) -> str:
    return {"whole number": "whole numbers", "number": "numbers", "text": "texts"}.get(words, words)
