"""The table of local optimizers: torch's own, the papers', and the user's as `module:Class`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import nn

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.optimizers.adam_c import Adam_C
from gossipdistill.optimizers.sgd_c import SGD_C
from gossipdistill.user_code import find_user_object, users_setup

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd_c": SGD_C,
    "adam_c": Adam_C,
}
KEY, OPTIONS_KEY = "train.optimizer", "train.optimizer_options"
_OURS = ("params", "lr", "betas", "momentum", "weight_decay")
"""`[train]` has keys of its own for these parameters."""


def check_optimizer(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown name, and options that a ready-made optimizer does not take. A user's own is not looked at.

    Raises:
        ConfigError: with the nearest names.
    """
    if ":" in name:
        return
    if name not in OPTIMIZERS:
        accepted = ", ".join(OPTIMIZERS) + ", or module:Class"
        raise ConfigError(f"no such optimizer; {nearest(name, OPTIMIZERS)}", key=KEY, value=name, accepted=accepted)
    _check_options(OPTIMIZERS[name], options)


def build_optimizer(
    name: str,
    model: nn.Module,
    lr: float,
    momentum: float,
    decay: float,
    options: Mapping[str, Any] | None = None,
    *,
    asked: bool = False,
    folder: Path | None = None,
) -> torch.optim.Optimizer:
    """The optimizer of `[train]` for all parameters of `model`.

    Args:
        name: a key of `OPTIMIZERS`, or `module:Class` of the user: a torch.optim.Optimizer.
        momentum: `momentum` where the class takes that, else the first of its `betas`; a class with neither has none.
        decay: its `weight_decay`.
        options: any other of its keyword arguments.
        asked: whether the user has set the momentum; a class that takes none is then refused.
        folder: where the user's own modules lie; None is the current folder.

    Raises:
        ConfigError: for an unknown name, an unknown option, or a value that the class refuses.
    """
    options = dict(options or {})
    check_optimizer(name, options)
    if ":" in name:
        found = find_user_object(name, KEY, "Optimizer", ", ".join(OPTIMIZERS) + ", or module:Class", folder)
        if not callable(found):
            raise ConfigError(f"is no class, it is of type {type(found).__name__}", key=KEY, value=name)
        kind: Callable[..., Any] = found
        _check_options(kind, options)
    else:
        kind = OPTIMIZERS[name]
    given = _given(name, kind, lr, momentum, decay, asked)
    parameters = list(model.parameters())
    if not parameters:
        raise ConfigError("has no parameters, so there is nothing to train", key="Task.model")
    own = ":" in name
    source = inspect.getsourcefile(kind) if own and isinstance(kind, type | FunctionType) else None
    with users_setup("the optimizer", key=KEY, value=name, problem="refuses these options", source=source):
        made = kind(parameters, **given, **options)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(f"makes a {type(made).__name__}, not a torch.optim.Optimizer", key=KEY, value=name)
    return made


def _given(
    name: str, kind: Callable[..., Any], lr: float, momentum: float, decay: float, asked: bool
) -> dict[str, Any]:
    """The keys of `[train]` as keyword arguments of this class; ConfigError for what it does not take."""
    takes = _takes(kind)
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    given: dict[str, Any] = {"lr": lr}
    if "momentum" in takes or (anything and asked and "betas" not in takes):
        given["momentum"] = momentum
    elif "betas" in takes:
        given["betas"] = (momentum, 0.999)
    elif asked and momentum:
        raise ConfigError(f"{name} takes no momentum", key="train.momentum", value=momentum, accepted="0.0")
    if "weight_decay" in takes or (anything and decay):
        given["weight_decay"] = decay
    elif decay:
        raise ConfigError(f"{name} takes no weight decay", key="train.weight_decay", value=decay, accepted="0.0")
    return given


def _takes(kind: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(kind).parameters
    except (TypeError, ValueError):  # what C defines may have no signature
        raise ConfigError("does not say what it takes, so it is no optimizer", key=KEY, value=kind) from None


def _check_options(kind: Callable[..., Any], options: Mapping[str, Any]) -> None:
    takes = _takes(kind)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return
    free = [key for key in takes if key not in _OURS]
    for key, value in options.items():
        if key not in free:
            own = f"; it is train.{key}" if key in _OURS and key not in ("params", "betas") else ""
            raise ConfigError(
                f"this optimizer has no such option{own or '; ' + nearest(key, free)}",
                key=f"{OPTIONS_KEY}.{key}",
                value=value,
                accepted=", ".join(free) or "none",
            )


__all__ = ["OPTIMIZERS", "SGD_C", "Adam_C", "build_optimizer", "check_optimizer"]
