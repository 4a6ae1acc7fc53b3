"""Puts what a checkpoint holds into a live model and a live optimizer, exactly."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from gossipdistill.durable import RefusedCheckpointError
from gossipdistill.learning.hyperparameters import Change

_POSITION = {"last_epoch", "_step_count", "best", "num_bad_epochs", "cooldown_counter", "T_cur"}
"""These attributes change in torch's schedules."""
_HARMLESS = {"lr", "weight_decay"}
"""No state of an optimizer depends on these keys."""


def kind_of(value: object) -> str:
    """In words, what two entries of one name must have in common: type and shape, or the kind of object."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout is torch.strided else f"{str(value.layout).removeprefix('torch.')} "
    return f"{layout}{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters in the order of the groups, each once: so a state dictionary of torch counts them."""
    found = {id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]}
    return list(found.values())


def put_into_model(model: nn.Module, entries: Mapping[str, Any]) -> None:
    """Parameters and buffers are written in place; what else a module wants back (`set_extra_state`, packed weights)
    goes the way that the module has for it."""
    live: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    live |= dict(model.named_buffers(remove_duplicate=False))
    others: OrderedDict[str, Any] = OrderedDict(
        (name, value) for name, value in entries.items() if name not in live or not isinstance(value, Tensor)
    )
    if others:
        # The versions of the modules' formats: without them some take what comes for one of long ago.
        others._metadata = getattr(model.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
        odd = model.load_state_dict(others, strict=False).unexpected_keys
        if odd:
            raise ValueError(f"the model does not take {', '.join(odd[:4])} back")
    with torch.no_grad():
        for name, value in entries.items():
            if name not in others:
                _written_once(live[name]).copy_(_written_once(value, live[name]))


def _written_once(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """The part of an expanded tensor that is in memory; with `like`, the part of `tensor`, which is not expanded, that
    belongs there."""
    shape = tensor if like is None else like
    if shape.layout is not torch.strided:
        return tensor
    for dimension, (length, stride) in enumerate(zip(shape.shape, shape.stride(), strict=True)):
        if stride == 0 and length > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def put_into_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore the state by `load_state_dict`; where that is torch's own, correct it to the bit: torch's converts states
    to the type of their parameter, and breaks texts."""
    optimizer.load_state_dict(state)
    hooks = optimizer._optimizer_load_state_dict_pre_hooks or optimizer._optimizer_load_state_dict_post_hooks
    if type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict or hooks:
        return
    for place, parameter in enumerate(parameters_of(optimizer)):
        saved = state["state"].get(place)
        if isinstance(saved, dict) and isinstance(optimizer.state.get(parameter), dict):
            own = optimizer.state[parameter]
            for key, value in saved.items():
                if key in own:
                    own[key] = _exact(value, own[key])


def _exact(saved: Any, loaded: Any) -> Any:
    """The saved value, on the device that torch has chosen; where an optimizer has made a tensor of a number, that."""
    if isinstance(saved, Tensor) and isinstance(loaded, Tensor):
        return saved if isinstance(saved, nn.Parameter) else saved.to(loaded.device)
    if isinstance(loaded, Tensor):
        return loaded
    if isinstance(saved, dict) and isinstance(loaded, dict):
        return {key: _exact(value, loaded[key]) if key in loaded else value for key, value in saved.items()}
    if isinstance(saved, list | tuple) and isinstance(loaded, list | tuple) and len(saved) == len(loaded):
        return type(saved)(_exact(one, other) for one, other in zip(saved, loaded, strict=True))
    return saved


def schedules_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The position of each schedule that a user's optimizer has as an attribute."""
    own = {name: value for name, value in vars(optimizer).items() if isinstance(value, LRScheduler)}
    return {name: _position_of(schedule) for name, schedule in own.items()}


def put_into_schedules(optimizer: torch.optim.Optimizer, positions: Mapping[str, Any]) -> None:
    """Put the schedules where they were; their base rates and lengths are those that today's constructor gave."""
    for name, position in positions.items():
        schedule = vars(optimizer).get(name)
        if isinstance(schedule, LRScheduler):
            _put_into_schedule(schedule, position)


def _position_of(schedule: LRScheduler) -> dict[str, Any]:
    position = {key: value for key, value in vars(schedule).items() if key in _POSITION}
    parts = getattr(schedule, "_schedulers", None)
    return position if parts is None else position | {"parts": [_position_of(part) for part in parts]}


def _put_into_schedule(schedule: LRScheduler, position: Mapping[str, Any]) -> None:
    counts = {key: position[key] for key in _POSITION & position.keys()}
    odd = [key for key, value in counts.items() if not isinstance(value, int | float)]
    if odd:
        raise ValueError(f"{odd[0]} of a schedule is no number")
    vars(schedule).update(counts)
    for part, inside in zip(getattr(schedule, "_schedulers", ()), position.get("parts", ()), strict=False):
        _put_into_schedule(part, inside)


def refuse_if_it_cannot_step(optimizer: torch.optim.Optimizer, changes: Sequence[Change]) -> None:
    """Some settings ask for a state that is not there (`amsgrad`), or not of this size: a twin tries a step. Not of a
    user's own optimizer: a step of that may do anything.

    Raises:
        RefusedCheckpointError: where it fails with the new values, and does not with those of the checkpoint.
    """
    tried = [change for change in changes if change.key not in _HARMLESS]
    ready_made = type(optimizer).__module__.partition(".")[0] in ("torch", "gossipdistill")
    if not tried or not optimizer.state or not ready_made:
        return
    problem = _problem_of_a_step(optimizer, ())
    if problem and not _problem_of_a_step(optimizer, tried):
        words = ", ".join(f"{change.key} = {change.now!r} (was {change.was!r})" for change in tried[:4])
        raise RefusedCheckpointError(f"the state of its optimizer does not go with {words}: {problem}")


def _problem_of_a_step(optimizer: torch.optim.Optimizer, undone: Sequence[Change]) -> str:
    """The failure of a step of a copy, with gradients of zero; empty where it succeeds, or no copy can be made."""
    generators = torch.get_rng_state()
    try:
        twin = copy.deepcopy(optimizer)
    except Exception:
        return ""
    for change in undone:
        twin.param_groups[change.group][change.key] = change.was
    for parameter in parameters_of(twin):
        parameter.grad = torch.zeros_like(parameter)
    try:
        twin.step(lambda: 0.0)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        torch.set_rng_state(generators)
    return ""
