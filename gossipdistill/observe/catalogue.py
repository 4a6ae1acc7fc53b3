"""Strategies and tasks described in the terminal, from the code itself."""

from __future__ import annotations

import inspect
from pathlib import Path

from pydantic.fields import FieldInfo
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossipdistill.strategies import (
    STRATEGIES,
    Delivery,
    Exchange,
    Initialisation,
    Needs,
    Rounds,
    Strategy,
    strategy_of,
)
from gossipdistill.tasks import REQUIRED, describe_task

_ROUNDS = {
    (Rounds.FREE, False): "free: no peer waits",
    (Rounds.LOCKSTEP, False): "lockstep: each round waits for the slowest living neighbour",
    (Rounds.LOCKSTEP, True): "lockstep: all wait for all",
}
_NEEDS = {
    "strongly_connected": "a strongly connected topology",
    "symmetric": "links both ways",
    "alike_models": "one architecture",
    "class_outputs": "class outputs",
    "transfer_set": "a transfer set",
    "float_inputs": "floating-point inputs",
}
"""The fields of `Needs` that the run must satisfy, in words."""
_STARTS = {
    Initialisation.IDENTICAL: "the same initial weights",
    Initialisation.GROUPS: "links and the same initial weights inside each group",
}
"""Other initialisations are not here, as the launcher makes them for any model."""


def needs_words(kind: type[Strategy]) -> list[str]:
    """What a run must offer to a strategy, as the strategy declares it. A need of a single option names the option."""
    usual = _words(kind(kind.options_type(), Exchange()).needs)
    more = [text for text in _words(kind.needs) if text not in usual]
    return [*usual, *(f"{text} with `{kind.fuller_with}`" for text in more)]


def waits_words(kind: type[Strategy]) -> str:
    """The peers that a step may wait for, in words."""
    if kind.rounds is Rounds.FREE:
        return "never"
    if kind.delivery is Delivery.COLLECTIVE:
        return "for all peers"
    return "for the slowest neighbour, at most `round_timeout_s`"


def _words(needs: Needs) -> list[str]:
    asked = [text for name, text in _NEEDS.items() if getattr(needs, name)]
    start = _STARTS.get(needs.initialisation)
    return [*asked, *([start] if start else [])]


def strategy_names() -> list[tuple[str, str]]:
    """Name and first line of each strategy."""
    return [(name, _module_line(kind)) for name, kind in STRATEGIES.items()]


def describe_strategy(name: str) -> RenderableType:
    """Docstring, needs, keys and defaults of a strategy."""
    kind = strategy_of(name)
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_row("delivery", kind.delivery.value)
    facts.add_row("rounds", _ROUNDS[kind.rounds, kind.delivery is Delivery.COLLECTIVE])
    facts.add_row("needs", "; ".join(needs_words(kind)) or "nothing")
    facts.add_row("initial weights", kind.needs.initialisation.value)
    facts.add_row("exchange.every_steps", f"{kind.every_steps} by default")
    cap = f"{kind.per_second_max:g} by default" if kind.per_second_max else "no cap by default"
    facts.add_row("exchange.per_second_max", cap)
    facts.add_row("exchange.encoding", f"{kind.encoding} by default")
    facts.add_row("train.clip_norm", f"{kind.clip_norm} by default")
    keys = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("key", "default", ""):
        keys.add_column(title)
    for option, entry in kind.options_type.model_fields.items():
        keys.add_row(f"strategy.{option}", _shown(entry), _description(entry))
    parts: list[RenderableType] = [
        Text(name, style="bold"),
        Text(_module_line(kind)),
        Text(""),
        Text(inspect.getdoc(kind) or ""),
        Text(""),
        facts,
    ]
    if kind.options_type.model_fields:
        parts += [Text(""), keys]
    return Group(*parts)


def describe_task_for(name: str, data_dir: Path | None) -> RenderableType:
    """Docstring, options and data of a task."""
    described = describe_task(name, data_dir)
    keys = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("key", "type", "default", ""):
        keys.add_column(title)
    for option, entry in described.options.items():
        default = "required" if entry.default is REQUIRED else str(entry.default)
        keys.add_row(f"task.{option}", entry.annotation, default, entry.doc)
    parts: list[RenderableType] = [Text(name, style="bold"), Text(described.doc), Text(""), keys]
    if described.about is not None:
        about = described.about
        facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for title, text in (("origin", about.origin), ("licence", about.licence), ("sizes", about.sizes)):
            facts.add_row(title, text)
        for place in described.looks_in:
            facts.add_row("looks in", place)
        parts += [Text(""), facts]
    return Group(*parts)


def _module_line(kind: type[Strategy]) -> str:
    return (inspect.getdoc(inspect.getmodule(kind)) or "").partition("\n")[0]


def _shown(entry: FieldInfo) -> str:
    """The default, as far as possible in the notation of a run file."""
    default = entry.get_default(call_default_factory=True)
    if default is None:
        return "unset"
    if isinstance(default, tuple):
        return str(list(default))
    return str(default)


def _description(entry: FieldInfo) -> str:
    return " ".join((entry.description or "").split())
