"""What a checkpoint must hold so that training can go on from it. An undamaged file with a right checksum may still
hold no checkpoint."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load
from torch import Tensor

from gossipdistill.durable import RefusedCheckpointError
from gossipdistill.files import UnusableError, check_shape
from gossipdistill.printable import printable, shown

_Count = Annotated[int, Field(ge=0, le=2**53)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Progress(_Record):
    """The progress so far. Other counts may stand beside these."""

    __pydantic_extra__: dict[str, int | float] = Field(init=False)

    step: _Count = 0
    exchanges: _Count = 0
    elapsed_s: Annotated[float, Field(ge=0)] = 0.0


class _Optimizer(_Record):
    """`groups` counts the parameters of each; `state` and `gave` are nodes, as `keeping.py` has them."""

    kind: str
    groups: list[_Count]
    gave: list[Any] | None = None


class _Group(_Record):
    """A parameter group in release 0.1: numbers of its parameters beside its settings."""

    params: list[_Count]


class _OlderOptimizer(_Record):
    """An optimizer in release 0.1; `plain` are the entries of its state that are no tensors."""

    kind: str
    groups: list[_Group]
    plain: dict[str, Any]


class _Content(_Record):
    """Everything but the tensors. The entries of `memory` and `model` are nodes."""

    progress: _Progress
    optimizer: _Optimizer
    strategy: str
    memory: dict[str, Any]
    generators: dict[str, Any]
    model: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class _OlderContent(_Content):
    optimizer: _OlderOptimizer  # type: ignore[assignment]


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        RefusedCheckpointError: when it is none.
    """
    try:
        return load(data)
    except Exception as error:  # whatever the parser of another library raises: it is about these bytes
        reason = printable(f"{type(error).__name__}: {error}")
        raise RefusedCheckpointError(f"its tensors cannot be read ({reason})") from None


def refuse_malformed(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse content of another shape, and states that no random generator takes.

    Raises:
        RefusedCheckpointError: naming the key at fault.
    """
    for key, one in _Content.model_fields.items():
        if one.is_required() and key not in content:
            raise RefusedCheckpointError(f"it cannot be read: it lacks {key!r}")
    try:
        optimizer = content["optimizer"]
        check_shape(_OlderContent if isinstance(optimizer, dict) and "plain" in optimizer else _Content, content)
    except UnusableError as reason:
        raise RefusedCheckpointError(f"it cannot be read: {reason}") from None
    generators = content["generators"]
    attempts: dict[str, Callable[[], object]] = {
        "rng.cpu": lambda: torch.Generator().set_state(tensors["rng.cpu"]),
        "rng.cuda": lambda: _refuse_unlike_cuda(tensors.get("rng.cuda")),
        "generators.python": lambda: random.Random().setstate(python_state(generators)),
        "generators.numpy": lambda: np.random.RandomState().set_state(numpy_state(generators)),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except Exception as error:  # each generator refuses a state in its own way
            why = printable(f"{type(error).__name__}: {error}")
            raise RefusedCheckpointError(f"it cannot be read: {name} is the state of no generator ({why})") from None


def refuse_odd_state(optimizer: torch.optim.Optimizer, state: Any, today: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a state of no parameter, and settings of a group that are of another kind than `today`'s: no optimizer of
    torch could use them. A user's own optimizer is not checked.

    Raises:
        RefusedCheckpointError: naming what is odd.
    """
    if type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict:
        return
    groups, states = (state.get(key) if isinstance(state, dict) else None for key in ("param_groups", "state"))
    if not isinstance(groups, list) or not isinstance(states, dict) or len(groups) != len(today):
        raise RefusedCheckpointError("it cannot be read: optimizer.state has no groups and states")
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    for place in states:
        if isinstance(place, int) and not 0 <= place < count:
            raise RefusedCheckpointError(f"it cannot be read: optimizer.state is of a parameter {place} of {count}")
    for saved, mine in zip(groups, today, strict=True):
        odd = [key for key, value in saved.items() if key in mine and _is_odd(value, mine[key])]
        if odd:
            was, now = shown(saved[odd[0]]), shown(mine[odd[0]])
            raise RefusedCheckpointError(
                f"it cannot be read: optimizer: {printable(odd[0])} = {was}, where {now} is now"
            )


def _is_odd(value: object, today: object) -> bool:
    """Whether a value is a text or a list where a number is meant, or a list of another length."""
    if isinstance(today, tuple | list):
        if not isinstance(value, tuple | list) or len(value) != len(today):
            return True
        return any(map(_is_odd, value, today))
    return isinstance(today, int | float) and isinstance(value, str | list | tuple | dict | set)


def python_state(generators: Mapping[str, Any]) -> tuple[Any, ...]:
    """The state of `random`, as it takes it.

    Raises:
        Exception: when there is none.
    """
    version, words, gauss = generators["python"]
    if gauss is not None and not isinstance(gauss, float):
        raise TypeError("the last entry is no number")
    if not all(isinstance(word, int) and 0 <= word < 2**32 for word in words):
        raise ValueError("its words have 32 bits")
    return version, tuple(words), gauss


def numpy_state(generators: Mapping[str, Any]) -> dict[str, Any]:
    """The state of `numpy.random`, as it takes it.

    Raises:
        Exception: when there is none.
    """
    numpy = generators["numpy"]
    if not isinstance(numpy["gauss"], int | float) or numpy["has_gauss"] not in (0, 1):
        raise TypeError("gauss is no number")
    key = np.array(numpy["state"]["key"], dtype=np.uint32)
    return dict(numpy | {"state": numpy["state"] | {"key": key}})


def _refuse_unlike_cuda(state: Tensor | None) -> None:
    if state is not None and (state.dtype is not torch.uint8 or state.ndim != 1 or not len(state)):
        raise TypeError("no bytes")
