"""Which values of an optimizer's groups hold when training goes on from a checkpoint.

A group holds values that the user has set (lr, momentum, betas) and values that training has changed (the momentum of a
OneCycle, the k of a schedule-free optimizer, the d of Prodigy), under the same kind of key. So a checkpoint has, beside
the groups as they were, the values that the constructor had given. Where today's constructor gives another value than
that one did, the user has changed it, and the new value wins; elsewhere the saved one stays.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossipdistill.learning.keeping import Absent, Giver, Keeper, is_function, same

Group = Mapping[str, Any]
"""A group of parameters is its values by key, without the parameters."""
_INITIAL = "initial_"
"""`initial_lr` is what a schedule multiplies, and `initial_weight_decay` likewise: they follow lr and weight_decay."""


@dataclass(frozen=True, slots=True)
class Change:
    """In this group (from 0) `key` had the value `was` when the checkpoint was written, and has `now`."""

    group: int
    key: str
    was: Any
    now: Any


def constructor_values(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], ...]:
    """A copy of the values of the groups; to be called right after the optimizer was built."""
    return tuple(
        {key: _apart(value) for key, value in group.items() if key != "params"}
        for group in getattr(optimizer, "param_groups", ())
    )


def plain(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The same values as they come back from a checkpoint: callables are absent, a number of NumPy is a number."""
    keeper = Keeper(absent=is_function)
    nodes = [keeper.keep(dict(group), f"group {place}") for place, group in enumerate(groups)]
    giver = Giver(keeper.tensors)
    return [giver.give(node) for node in nodes]


def renew(
    optimizer: torch.optim.Optimizer,
    then: Sequence[Group] | None,
    today: Sequence[Group],
    unsure: Collection[str] = (),
) -> list[Change]:
    """Give the groups of an optimizer that was just restored the values that the constructor has changed since.

    Args:
        then: the constructor's values when the checkpoint was written; None where that is not known.
        today: those of now.
        unsure: keys that are compared with the saved value itself where `then` is None: nothing moves them but a
            schedule, which leaves the value that it began with under `initial_`.
    """
    changes: list[Change] = []
    for place, (group, now) in enumerate(zip(optimizer.param_groups, today, strict=True)):
        before = then[place] if then is not None else _as_saved(group, now, unsure)
        for (key, value), (_, comparable) in zip(now.items(), plain([now])[0].items(), strict=True):
            if key in group and key in before and same(before[key], comparable) and not isinstance(comparable, Absent):
                continue
            if key in before and key in group and not isinstance(comparable, Absent):
                changes.append(Change(place, key, before[key], comparable))
            group[key] = _apart(value)
            if _INITIAL + key in group and _INITIAL + key not in now:
                group[_INITIAL + key] = _apart(value)
    return changes


def _as_saved(group: Group, today: Group, unsure: Collection[str]) -> dict[str, Any]:
    """The constructor's values for a checkpoint that does not hold them. A tuple of today was a list in its JSON."""
    before = {}
    for key, value in today.items():
        saved = group.get(_INITIAL + key, group.get(key)) if key in unsure else value
        before[key] = tuple(saved) if isinstance(value, tuple) and isinstance(saved, list) else saved
    return before


def _apart(value: Any) -> Any:
    """A value that shares nothing with the group."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, list | dict | set):
        return copy.deepcopy(value)
    if isinstance(value, tuple) and any(isinstance(one, Tensor) for one in value):
        return tuple(map(_apart, value))
    return value
